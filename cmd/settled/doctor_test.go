package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/demo"
	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/consumer/operations"
	"settled/ledger"
)

// doctor runs `settled doctor` with the deployment's configuration as a file.
func (d *deployment) doctor(args ...string) (status int, found []doctor.Finding) {
	d.t.Helper()
	file := filepath.Join(d.dir, "settled.yaml")
	var text strings.Builder
	text.WriteString(config.YamlOf(d.cfg.Keys(), config.Key.YAMLValue, nil, false))
	config.WriteLimits(&text, d.cfg.Limits)
	write(d.t, file, text.String())
	var out, errs bytes.Buffer
	status = runChecked(d.t.Context(), append([]string{"doctor", "--config", file, "--nats.url", d.cfg.NATSURL, "--output", "json"}, args...), strings.NewReader(""), &out, &errs)
	for line := range strings.Lines(out.String()) {
		var f doctor.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			d.t.Fatalf("%q: %v", line, err)
		}
		found = append(found, f)
	}
	if (status == exitDone) != (errs.Len() == 0) {
		d.t.Errorf("exit %d, and on stderr %q", status, errs.String())
	}
	return status, found
}

// production sets what a healthy configuration in production says.
func (d *deployment) production() {
	d.cfg.NodeProtocol, d.cfg.NodeAddress = "nitrorpc/0.4", d.node.Address().Hex()
}

// A healthy scene, looked at while it works, is healthy throughout; and nothing is
// changed by looking.
func TestDoctorFindsNothing(t *testing.T) {
	d := deploy(t)
	d.production()
	d.serve()
	session := d.open()
	d.result(session, d.publish("partial_service", "x", session, d.partial()))
	next := d.open()
	before := d.stored()
	status, found := d.doctor("--session", string(next))
	if status != exitDone {
		t.Errorf("exit %d", status)
	}
	checks := map[string]bool{}
	for _, f := range found {
		checks[f.Check] = true
		if f.Result != doctor.OK && f.Check != "nats.durability" {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"config", "keys", "nats.connect", "nats.version", "nats.rights", "nats.jetstream", "stream.OUTCOMES", "stream.DEADLETTERS",
		"stream.OPERATIONS", "stream.SETTLEMENTS", "consumer.settled", "sending", "node.connect", "node.protocol", "node.address", "node.sign_in", "node.clock",
		"node.message_expiry", "node.rate", "node.closed", "session", "session.quorum"} {
		if !checks[check] {
			t.Errorf("%s was not looked at", check)
		}
	}
	if after := d.stored(); after != before {
		t.Errorf("the streams held %s, and then %s", before, after)
	}
	d.verify(1)
}

// stored is how many messages each stream has.
func (d *deployment) stored() string {
	d.t.Helper()
	var b strings.Builder
	for _, name := range []string{"OUTCOMES", "DEADLETTERS", "OPERATIONS", "SETTLEMENTS"} {
		s, err := d.nats.JS.Stream(d.t.Context(), name)
		d.must(err)
		fmt.Fprintf(&b, "%s %d ", name, s.CachedInfo().State.LastSeq)
	}
	return b.String()
}

// makeStreams makes the four streams and the durable, one of them otherwise.
func (d *deployment) makeStreams(change func(*jetstream.StreamConfig)) {
	d.t.Helper()
	for _, s := range append(consumer.StreamConfigs(consumer.Config{}), ledger.StreamConfig(ledger.Config{})) {
		change(&s)
		if s.Name == "" {
			continue
		}
		_, err := d.nats.JS.CreateStream(d.t.Context(), s)
		d.must(err)
	}
	_, _, _ = consumer.EnsureDurable(d.t.Context(), d.nats.JS, consumer.Config{ManageStreams: true})
}

// Each planted fault is found, with the line that fixes it; and nothing else fails.
func TestDoctorFindsFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		it   string
		node clearnodetest.Config
		// plant is called with the streams not yet made; nil leaves them as they should be.
		plant func(*deployment)
		want  doctor.Finding // Found and Do: a part of each
	}{
		{it: "the node keeps requests longer", plant: func(d *deployment) { d.cfg.NodeMessageExpiry = 4 * time.Second },
			want: finding("node.message_expiry", doctor.Fail, "accepts a request", "clearnode.message_expiry: 8s")},
		{it: "the node refuses every close", plant: func(d *deployment) { d.cfg.NodeMessageExpiry, d.cfg.NodeRequestValidity = time.Minute, 20*time.Second },
			want: finding("node.message_expiry", doctor.Fail, "refuse every close", "clearnode.message_expiry: 8s, and clearnode.request_validity")},
		{it: "the node's expiry is a little shorter", plant: func(d *deployment) {
			d.cfg.NodeMessageExpiry, d.cfg.NodeRequestValidity = 10*time.Second, 3*time.Second
		},
			want: finding("node.message_expiry", doctor.Warn, "the node's is 8s", "clearnode.message_expiry: 8s")},
		{it: "the node's clock is off", node: clearnodetest.Config{Now: func() time.Time { return time.Now().Add(5 * time.Second) }},
			want: finding("node.clock", doctor.Warn, "s ahead of ours", "NTP")},
		{it: "another node answers", plant: func(d *deployment) { d.cfg.NodeAddress = addressOf(d.players[0]) },
			want: finding("node.address", doctor.Fail, "the node's address is", "clearnode.node_address: \"0x")},
		{it: "nobody is pinned", plant: func(d *deployment) { d.cfg.NodeAddress = "" },
			want: finding("node.address", doctor.Warn, "the address that signs the first answer is trusted", "clearnode.node_address: \"0x")},
		{it: "another generation", plant: func(d *deployment) { d.cfg.NodeProtocol = "nitronode/v1" },
			want: finding("node.protocol", doctor.Fail, "speaks nitrorpc/0.4", "clearnode.protocol: nitrorpc/0.4")},
		{it: "the node is down", plant: func(d *deployment) { d.node.Stop() },
			want: finding("node.connect", doctor.Fail, "dial", "clearnode.url")},
		{it: "the sign-in is refused", plant: func(d *deployment) {
			d.node.Inject(clearnodetest.Fault{Method: "auth_verify", Kind: clearnodetest.Error, Text: "invalid challenge or signature", Times: -1})
		}, want: finding("node.sign_in", doctor.Fail, "invalid challenge", "clearnode.key_files")},
		{it: "somebody else closes sessions", plant: func(d *deployment) { d.closedByAnother() },
			want: finding("node.closed", doctor.Warn, "1 of the 1 closed sessions", "only client")},
		{it: "key file open to others", plant: func(d *deployment) { d.must(os.Chmod(d.cfg.NodeKeyFiles[0], 0o644)) },
			want: finding("keys", doctor.Fail, "0644", "chmod 600")},
		{it: "key file missing", plant: func(d *deployment) { d.cfg.NodeKeyFiles = []string{"nowhere.key"} },
			want: finding("keys", doctor.Fail, "nowhere.key", "clearnode.key_files")},
		{it: "key file twice", plant: func(d *deployment) { d.cfg.NodeKeyFiles = append(d.cfg.NodeKeyFiles, d.cfg.NodeKeyFiles[0]) },
			want: finding("keys", doctor.Fail, "which another file contains too", "once")},
		{it: "no key", plant: func(d *deployment) { d.cfg.NodeKeyFiles = nil },
			want: finding("keys", doctor.Fail, "not set", "clearnode.key_files")},
		{it: "NATS is down", plant: func(d *deployment) { d.cfg.NATSURL = "nats://127.0.0.1:1" },
			want: finding("nats.connect", doctor.Fail, "is it running", "nats.url: nats://127.0.0.1:1")},
		{it: "the ledger may be deleted from", plant: func(d *deployment) {
			d.makeStreams(func(s *jetstream.StreamConfig) { s.DenyDelete = s.DenyDelete && s.Name != "SETTLEMENTS" })
		}, want: finding("stream.SETTLEMENTS", doctor.Fail, "deny_delete false", "does not start")},
		{it: "outcomes that are gone once acknowledged", plant: func(d *deployment) {
			d.makeStreams(func(s *jetstream.StreamConfig) {
				if s.Name == "OUTCOMES" {
					s.Retention = jetstream.WorkQueuePolicy
				}
			})
		}, want: finding("stream.OUTCOMES", doctor.Fail, "retention", "does not start")},
		{it: "a window that differs", plant: func(d *deployment) {
			d.makeStreams(func(s *jetstream.StreamConfig) {
				if s.Name == "OUTCOMES" {
					s.Duplicates = time.Second
				}
			})
		}, want: finding("stream.OUTCOMES", doctor.Warn, "duplicate_window", "")},
		{it: "streams that nobody makes", plant: func(d *deployment) {
			d.cfg.NATSManageStreams = false
			d.makeStreams(func(s *jetstream.StreamConfig) {
				if s.Name == "SETTLEMENTS" {
					s.Name = ""
				}
			})
		}, want: finding("stream.SETTLEMENTS", doctor.Fail, "nats.manage_streams is false", "nats stream add SETTLEMENTS")},
		{it: "a durable that nobody makes", plant: func(d *deployment) {
			d.cfg.NATSManageStreams, d.cfg.ConsumerDurable = false, "other"
			d.makeStreams(func(*jetstream.StreamConfig) {})
		}, want: finding("consumer.other", doctor.Fail, "nats.manage_streams is false", "nats consumer add OUTCOMES other")},
		{it: "replicas without a cluster", plant: func(d *deployment) { d.cfg.NATSReplicas = 3 },
			want: finding("nats.replicas", doctor.Warn, "in no cluster", "nats.replicas: 1")},
	} {
		t.Run(c.it, func(t *testing.T) {
			d := deployOn(t, c.node)
			d.production()
			if c.plant != nil {
				c.plant(d)
			}
			if _, err := d.nats.JS.Stream(t.Context(), "OUTCOMES"); err != nil {
				d.makeStreams(func(*jetstream.StreamConfig) {})
			}
			status, found := d.doctor()
			wantFinding(t, found, c.want)
			if failed := c.want.Result == doctor.Fail; failed != (status == exitFailed) {
				t.Errorf("exit %d", status)
			}
		})
	}
}

// finding is one that a test wants.
func finding(check, result, found, do string) doctor.Finding {
	return doctor.Finding{Check: check, Result: result, Found: found, Do: do}
}

func wantFinding(t *testing.T, found []doctor.Finding, want doctor.Finding) {
	t.Helper()
	there := false
	for _, f := range found {
		switch {
		case f.Check == want.Check && f.Result == want.Result && strings.Contains(f.Found, want.Found) && strings.Contains(f.Do, want.Do):
			there = true
		case f.Result == doctor.Fail:
			t.Errorf("and %+v", f)
		}
	}
	if !there {
		t.Errorf("no %+v in %+v", want, found)
	}
}

// closedByAnother closes a session of ours by a service with another ledger.
func (d *deployment) closedByAnother() {
	cfg := d.cfg
	d.cfg.NATSPrefix = "other."
	_, stop := d.serve()
	session := d.open()
	msg, err := demo.Message("other.", "partial_service", "x", map[string]any{"session_id": session, "parties": d.partial()["parties"], "completion": "0.5"}, false)
	d.must(err)
	_, err = d.nats.JS.PublishMsg(d.t.Context(), msg)
	d.must(err)
	d.until("it is closed", func() bool { s, _ := d.node.Session(string(session)); return s.Status == "closed" })
	stop()
	d.cfg = cfg
}

// A session whose quorum our keys don't reach, or that we take no part in.
func TestDoctorOnASession(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.production()
	d.makeStreams(func(*jetstream.StreamConfig) {})
	open := func(quorum uint64, weights ...int64) string {
		d.nonce++
		people := []string{addressOf(d.players[0]), addressOf(d.players[1]), addressOf(d.judge)}
		id, err := d.node.OpenSession(clearnodetest.Definition{Application: "test", Protocol: "NitroRPC/0.2", Participants: people[:len(weights)], Weights: weights, Quorum: quorum, Challenge: 86400, Nonce: d.nonce}, nil)
		d.must(err)
		return id
	}
	for _, c := range []struct {
		session string
		want    doctor.Finding
	}{
		{open(100, 50, 0, 50), finding("session.quorum", doctor.Warn, "weight of 50", addressOf(d.players[0])+" (50)")},
		{open(100, 50, 50), finding("session.quorum", doctor.Fail, "none of our keys", addressOf(d.players[0]))},
		{"0x" + zeros(64), finding("session", doctor.Fail, "no session", "clearnode.url")},
	} {
		_, found := d.doctor("--session", c.session)
		wantFinding(t, found, c.want)
	}
}

// What settled's user at NATS may not do is named, with the line for the server's
// configuration, and for no other user than settled.
func TestDoctorOnPermissions(t *testing.T) {
	for _, c := range []struct {
		without string
		want    doctor.Finding
	}{
		{"", finding("nats.rights", doctor.OK, "may do all", "")},
		{"operation.*", finding("nats.rights", doctor.Fail, "a stop can't be recorded", `publish: ["operation.*"]`)},
		{"settlement.*.*", finding("nats.rights", doctor.Fail, "ledger can't be written", `publish: ["settlement.*.*"]`)},
		{"deadletter.*", finding("nats.rights", doctor.Fail, "dead letter", `publish: ["deadletter.*"]`)},
		{"outcome.*", finding("nats.rights", doctor.Warn, "can't be published again", `publish: ["outcome.*"]`)},
		{"cosign.*", finding("nats.rights", doctor.Warn, "co-signature", `publish: ["cosign.*"]`)},
		{"$JS.ACK.OUTCOMES.settled.>", finding("nats.rights", doctor.Fail, "again for ever", `publish: ["$JS.ACK.OUTCOMES.settled.>"] in the permissions of the user settled, and of no other`)},
		{"$JS.ACK.*.*.OUTCOMES.settled.>", finding("nats.rights", doctor.Warn, "domain and account", `publish: ["$JS.ACK.*.*.OUTCOMES.settled.>"]`)},
		{"$JS.API.STREAM.MSG.GET.SETTLEMENTS", finding("nats.rights", doctor.Fail, "the ledger can't be read", `publish: ["$JS.API.STREAM.MSG.GET.SETTLEMENTS"]`)},
		{"$JS.API.STREAM.CREATE.OUTCOMES", finding("nats.rights", doctor.Warn, "stream OUTCOMES can't be created", `publish: ["$JS.API.STREAM.CREATE.OUTCOMES"]`)},
	} {
		t.Run(c.without, func(t *testing.T) {
			d := deploy(t)
			d.production()
			d.makeStreams(func(*jetstream.StreamConfig) {})
			may := settledsPermissions(t)
			may.Publish.Allow = slices.DeleteFunc(may.Publish.Allow, func(s string) bool { return s == c.without })
			d.limitUser(may)
			_, found := d.doctor()
			wantFinding(t, found, c.want)
		})
	}
	for subject, late := range map[string]string{"operation.*": "notices a stop only at the next read", "$JS.EVENT.ADVISORY.>": "another client takes"} {
		t.Run("not received: "+subject, func(t *testing.T) {
			d := deploy(t)
			d.production()
			d.makeStreams(func(*jetstream.StreamConfig) {})
			may := settledsPermissions(t)
			may.Subscribe.Allow = slices.DeleteFunc(may.Subscribe.Allow, func(s string) bool { return s == subject })
			d.limitUser(may)
			_, found := d.doctor()
			wantFinding(t, found, finding("nats.rights", doctor.Warn, late, fmt.Sprintf("subscribe: [%q]", subject)))
		})
	}
	t.Run("no inbox", func(t *testing.T) {
		d := deploy(t)
		d.production()
		d.limitUser(&server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}}})
		_, found := d.doctor()
		wantFinding(t, found, finding("nats.rights", doctor.Fail, "answers can't be received", "nats.inbox_prefix"))
		d.cfg.NATSInboxPrefix = "_INBOX"
		_, found = d.doctor()
		wantFinding(t, found, finding("stream.OUTCOMES", doctor.Note, "missing", ""))
	})
}

// settledsPermissions are those of settled's user in deploy/nats.
func settledsPermissions(t *testing.T) *server.Permissions {
	t.Helper()
	rolesEnvironment(t)
	for _, user := range rolesOptions(t, "single.conf").Users {
		if user.Username == "settled" {
			return user.Permissions
		}
	}
	t.Fatal("there is no user settled")
	return nil
}

// Whoever isn't settled is never advised to get settled's rights.
func TestDoctorAsAnotherUser(t *testing.T) {
	d := deploy(t)
	d.production()
	partner := d.key("partner")
	d.twoParties(partner)
	ns := d.configured("cosign.conf", nil)
	d.moveTo(ns)
	d.serve()
	for user, domain := range map[string]string{"partner": "outcomes", "operator": "", "dashboard": "ledger", "upstream": ""} {
		d.cfg.NATSURL, d.cfg.NATSDomain = as(user, ns), domain
		status, found := d.doctor()
		wantFinding(t, found, finding("nats.rights", doctor.Fail, "does not name settled's user", "settled doctor --cosign"))
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Check == "node.closed" && f.Result == doctor.Skipped && strings.Contains(f.Found, "with these credentials")
		}) {
			t.Errorf("%s: the ledger was read: %+v", user, found)
		}
		if status != exitFailed {
			t.Errorf("%s: exit %d", user, status)
		}
		for _, f := range found {
			if strings.Contains(f.Do, "settlement") && !strings.Contains(f.Do, "other settled") && !strings.Contains(f.Do, "another ledger") {
				t.Errorf("%s: %+v", user, f)
			}
		}
	}
}

// A co-signer's own checks: all is well where it is, and what isn't is named without
// advice that would give it more than it needs.
func TestDoctorCosign(t *testing.T) {
	d := deploy(t)
	d.production()
	partner := d.key("partner")
	d.twoParties(partner)
	ns := d.configured("cosign.conf", nil)
	d.moveTo(ns)
	d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.cfg.NodeKeyFiles = []string{filepath.Join(d.dir, "partner.key")}
	d.cfg.NATSURL, d.cfg.NATSDomain = as("partner", ns), "outcomes"
	status, found := d.doctor("--cosign", "--session", string(session))
	for _, f := range found {
		if f.Result != doctor.OK && f.Check != "nats.durability" {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"nats.rights", "stream.OUTCOMES", "session.quorum", "node.sign_in"} {
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Check == check }) {
			t.Errorf("%s was not examined", check)
		}
	}
	if status != exitDone {
		t.Errorf("exit %d", status)
	}
	for _, c := range []struct {
		it    string
		plant func()
		want  doctor.Finding
	}{
		{"another account's key", func() { d.cfg.NodeKeyFiles = []string{filepath.Join(d.dir, "alice.key")} }, finding("nats.rights", doctor.Fail, "may not subscribe to cosign.0x", `subscribe: ["cosign.0x`)},
		{"no domain", func() { d.cfg.NATSDomain = "" }, finding("nats.domain", doctor.Fail, "can't be read", "nats.domain: outcomes")},
		{"another stream", func() { d.cfg.CosignStream = "COPY" }, finding("nats.rights", doctor.Fail, "may not publish", `publish: ["$JS.outcomes.API.STREAM.MSG.GET.COPY"]`)},
	} {
		t.Run(c.it, func(t *testing.T) {
			cfg := d.cfg
			defer func() { d.cfg = cfg }()
			c.plant()
			status, found := d.doctor("--cosign")
			wantFinding(t, found, c.want)
			if status != exitFailed {
				t.Errorf("exit %d", status)
			}
		})
	}
	if status, found := d.doctor("--cosign", "--embedded"); status != exitMisused || len(found) > 0 {
		t.Errorf("both roles at once: exit %d", status)
	}
}

// While a stop is in force doctor fails, and says who stopped and why.
func TestDoctorSaysThatSendingIsStopped(t *testing.T) {
	d := deploy(t)
	d.production()
	d.makeStreams(func(*jetstream.StreamConfig) {})
	log := operations.New(d.nats.JS, consumer.Config{})
	_, err := log.Stop(t.Context(), "the reason given")
	d.must(err)
	status, found := d.doctor()
	wantFinding(t, found, finding("sending", doctor.Fail, "the reason given", "settled resume"))
	if status != exitFailed {
		t.Errorf("exit %d", status)
	}
	_, err = log.Resume(t.Context(), "test")
	d.must(err)
	status, found = d.doctor()
	wantFinding(t, found, finding("sending", doctor.OK, "no stop", ""))
	if status != exitDone {
		t.Errorf("exit %d", status)
	}
}

// limitUser starts the deployment's server again with one user, who may do this.
func (d *deployment) limitUser(may *server.Permissions) {
	d.t.Helper()
	d.nats.Close()
	d.server.Shutdown()
	d.server.WaitForShutdown()
	d.server = startNATS(d.t, &server.Options{
		JetStream: true, StoreDir: filepath.Join(d.dir, "jetstream"), Users: []*server.User{{Username: "settled", Password: "pw", Permissions: may}},
	})
	d.cfg.NATSURL = strings.Replace(d.server.ClientURL(), "nats://", "nats://settled:pw@", 1)
}

// The embedded server's disk is looked at, with the service running and without. Its
// streams are examined by whoever can read its operator.url.
func TestDoctorEmbedded(t *testing.T) {
	d := deploy(t)
	d.production()
	d.cfg.Embedded, d.cfg.EmbeddedStoreDir = true, filepath.Join(d.dir, "store")
	d.cfg.EmbeddedListen = "127.0.0.1:1" // nobody is there
	status, found := d.doctor()
	if status != exitDone {
		t.Errorf("exit %d", status)
	}
	wantFinding(t, found, finding("nats", doctor.Note, "not running", "settled serve --embedded"))
	wantFinding(t, found, finding("embedded.store_dir", doctor.Note, "not there yet", ""))
	d.cfg.EmbeddedListen = "127.0.0.1:0"
	link, err := natsconn.ConnectEmbedded(&d.cfg, "settled", false)
	d.must(err)
	defer link.Shutdown()
	d.nats, d.cfg.EmbeddedListen = link, link.Embedded.Addr().String()
	d.makeStreams(func(*jetstream.StreamConfig) {})
	status, found = d.doctor()
	wantFinding(t, found, finding("stream.SETTLEMENTS", doctor.OK, "settings are correct", ""))
	wantFinding(t, found, finding("consumer.settled", doctor.OK, "settings are correct", ""))
	wantFinding(t, found, finding("sending", doctor.OK, "no stop", ""))
	if status != exitDone {
		t.Errorf("exit %d", status)
	}
	files, err := filepath.Glob(filepath.Join(d.cfg.EmbeddedStoreDir, ".settled-doctor-*"))
	if err != nil || len(files) > 0 {
		t.Errorf("%v is left behind: %v", files, err)
	}
	d.cfg.EmbeddedStoreDir = t.TempDir()
	_, found = d.doctor()
	wantFinding(t, found, finding("nats.rights", doctor.Note, "operator.url", "embedded.store_dir"))
	if os.Getuid() != 0 { // root may write anywhere
		d.cfg.EmbeddedStoreDir = filepath.Join(d.dir, "closed")
		d.must(os.Mkdir(d.cfg.EmbeddedStoreDir, 0o500))
		_, found = d.doctor()
		wantFinding(t, found, finding("embedded.sync", doctor.Fail, "can't be written", "may write to"))
	}
}

// Old servers are refused, untried ones warned of.
func TestDoctorOnVersions(t *testing.T) {
	for version, want := range map[string]string{
		"2.10.29": doctor.Fail, "2.9.1": doctor.Fail, "1.4.1": doctor.Fail, "2.11.0": doctor.Warn, "2.14.9": doctor.Warn, "2.15.2": doctor.OK, "2.16.0-RC.1": doctor.OK, "3.0.0": doctor.OK, "": doctor.Warn,
	} {
		var found doctor.Finding
		d := &doctor.Doctor{Cfg: &config.Config{}, ReportFunc: func(f doctor.Finding) {
			if f.Check == "nats.version" {
				found = f
			}
		}}
		d.CheckVersion(version)
		if found.Result != want {
			t.Errorf("%q: %+v, want %s", version, found, want)
		}
	}
}

// Keys are never shown, whatever is wrong with them.
func TestDoctorShowsNoKey(t *testing.T) {
	d := deploy(t)
	d.production()
	secret, err := os.ReadFile(d.cfg.NodeKeyFiles[0])
	d.must(err)
	d.must(os.WriteFile(d.cfg.NodeKeyFiles[0], append(secret, 'x'), 0o600))
	d.cfg.NATSURL = "nats://me:topsecret@127.0.0.1:1"
	file := filepath.Join(d.dir, "settled.yaml")
	write(t, file, "nats: {url: \"nats://me:topsecret@127.0.0.1:1\"}\nclearnode: {url: \"ws://u:topsecret@127.0.0.1:1/ws\", key_files: ["+d.cfg.NodeKeyFiles[0]+"]}\nhttp: {listen: \"127.0.0.1:0\"}\n")
	var out, errs bytes.Buffer
	if status := runChecked(context.Background(), []string{"doctor", "--config", file}, strings.NewReader(""), &out, &errs); status != exitFailed {
		t.Errorf("exit %d", status)
	}
	for _, text := range []string{string(secret), "topsecret"} {
		if strings.Contains(out.String()+errs.String(), text) {
			t.Errorf("a secret is shown:\n%s%s", out.String(), errs.String())
		}
	}
}
