package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
)

// What NATS servers must be, at least.
var (
	oldestNATS = [2]int{2, 11} // knows Nats-Expected-Last-Subject-Sequence-Subject, by which the ledger compares
	triedNATS  = [2]int{2, 15}
)

const (
	leastPayload = 1 << 20 // a closed entry with evidence and the node's answer may be that large
	slowNATS     = 200 * time.Millisecond
)

// examineNATS checks what settled needs of NATS. d.nats stays nil where it can't be
// reached.
func (d *doctor) examineNATS(ctx context.Context) {
	cfg := *d.cfg
	if cfg.embedded {
		cfg.natsURL = "nats://" + reachable(cfg.embeddedListen)
		if !listens(ctx, reachable(cfg.embeddedListen)) {
			d.note("nats", "start `settled serve --embedded` and ask again", "the embedded server is not running: its streams can't be looked at")
			return
		}
	}
	link, err := cfg.connect("settled doctor", false, nats.MaxReconnects(0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		check := "nats.connect"
		if inboxAdvice(err) != "" {
			check = "nats.rights"
		}
		d.fail(check, natsAdvice(&cfg, err), "%s", err)
		return
	}
	d.nats = link
	d.server()
	if !d.mayHear() {
		link.Close()
		d.nats = nil
		return
	}
	switch {
	case d.cosign:
		d.cosigning(ctx)
		return
	case cfg.embedded && userOf(cfg.asOperator().natsURL) == "":
		d.note("nats.rights", "run doctor as the user that runs `settled serve --embedded`, with its embedded.store_dir", "without the embedded server's operator.url its streams can't be examined")
		return
	case cfg.embedded: // settled connects to it as its own user, with the rights of this version
	case link.domain != cfg.natsDomain:
		d.fail("nats.rights", notSettled, "the user of nats.url is not settled's: its account has no JetStream")
		return
	default:
		denied, settleds := d.rights()
		if !settleds || !d.jetStream(ctx, denied) {
			return
		}
		d.cluster()
	}
	d.streamsRead = true
	d.streams(ctx)
	d.limits()
	d.durable(ctx)
	d.sending(ctx)
	d.foreign(ctx)
}

// sending says whether a stop is in force. Where that can't be read, nothing is sent.
func (d *doctor) sending(ctx context.Context) {
	for _, name := range d.missing {
		if name == consumer.OperationsStream(d.cfg.natsPrefix) {
			d.note("sending", "", "nothing is stopped: stream %s is missing", name)
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stop, err := consumer.NewOperations(d.nats.js, d.cfg.consumerConfig(nil)).Stopped(ctx)
	switch {
	case err != nil:
		d.fail("sending", "", "nothing is sent while it is not known whether sending is stopped: %s", err)
	case stop != nil:
		d.fail("sending", "settled resume --reason …, once its cause is gone: `stopped` in deploy/RUNBOOK.md", "%s", stopText(stop))
	default:
		d.ok("sending", "no stop is in force")
	}
}

func listens(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func natsAdvice(cfg *config, err error) string {
	if advice := handshakeAdvice(err); advice != "" {
		return advice
	}
	switch text := strings.ToLower(err.Error()); {
	case inboxAdvice(err) != "":
		return inboxAdvice(err)
	case errors.Is(err, nats.ErrAuthorization) || strings.Contains(text, "authorization"):
		return "nats.credentials_file, nats.nkey_file, or user and password in nats.url: those of this program's user at this server"
	case strings.Contains(text, "tls") || strings.Contains(text, "certificate") || strings.Contains(text, "x509"):
		return "nats.tls.ca: the file of the CA that signed the server's certificate"
	}
	return fmt.Sprintf("nats.url: %s: start the server there, or name the one that runs", withoutPassword(cfg.natsURL))
}

// server looks at the one server that we are connected to.
func (d *doctor) server() {
	nc := d.nats.Conn
	if rtt, err := nc.RTT(); err == nil && rtt > slowNATS {
		d.warn("nats.connect", "run settled near its NATS", "%s answers in %s, and each settlement waits for it five times or more", nc.ConnectedUrlRedacted(), rtt.Round(time.Millisecond))
	} else {
		d.ok("nats.connect", "connected to %s", nc.ConnectedUrlRedacted())
	}
	d.version(nc.ConnectedServerVersion())
	if most := nc.MaxPayload(); most < leastPayload {
		d.fail("nats.max_payload", "max_payload: 1MB in the server's configuration", "the server takes messages of %d bytes at most: the result of a close could be refused", most)
	}
}

func (d *doctor) version(text string) {
	var found [2]int
	if _, err := fmt.Sscanf(text, "%d.%d", &found[0], &found[1]); err != nil {
		d.warn("nats.version", "", "the server's version is %q, which says nothing", text)
		return
	}
	before := func(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }
	switch {
	case before(found, oldestNATS):
		d.fail("nats.version", fmt.Sprintf("nats-server %d.%d or later", triedNATS[0], triedNATS[1]), "nats-server %s ignores what the ledger compares by: two replicas could both pay a session", text)
	case before(found, triedNATS):
		d.warn("nats.version", fmt.Sprintf("nats-server %d.%d or later", triedNATS[0], triedNATS[1]), "settled was not tried with nats-server %s", text)
	default:
		d.ok("nats.version", "nats-server %s", text)
	}
	if d.cfg.embedded {
		d.ok("nats.durability", "the embedded server syncs every message before it acknowledges it")
	} else {
		d.note("nats.durability", "sync_interval: always in the jetstream block of every server's configuration", "whether the servers sync before they acknowledge can't be seen from here")
	}
}

// jetStream reports whether it is there at all.
func (d *doctor) jetStream(ctx context.Context, denied map[string]bool) bool {
	if denied["INFO"] {
		d.note("nats.jetstream", "", "whether the account's storage runs out can't be seen: the user may not ask $JS.API.INFO")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := d.nats.js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		d.fail("nats.jetstream", "jetstream: enabled in settled's account", "JetStream is off for this user's account")
	case err != nil && d.cfg.natsDomain != "":
		d.fail("nats.jetstream", "nats.domain: the domain that the streams live in", "JetStream domain %s: %s", d.cfg.natsDomain, err)
	case err != nil:
		d.fail("nats.jetstream", "jetstream { store_dir: … } in the server's configuration", "JetStream: %s", err)
	case info.Limits.MaxStore > 0 && info.Store > uint64(info.Limits.MaxStore)/5*4:
		d.warn("nats.jetstream", "max_file in the account's limits", "the account has used %d of %d MiB: once it is full nothing is settled", info.Store>>20, info.Limits.MaxStore>>20)
	default:
		d.ok("nats.jetstream", "enabled; %d streams, %d MiB", info.Streams, info.Store>>20)
	}
	d.account = info
	return err == nil
}

// limits compares what serve would create with what the account allows.
func (d *doctor) limits() {
	if d.account == nil || len(d.missing) == 0 || !d.cfg.natsManageStreams {
		return
	}
	limits := d.account.Limits
	if most := limits.MaxStreams; most > 0 && d.account.Streams+len(d.missing) > most {
		d.fail("nats.limits", limitAdvice(&jetstream.APIError{ErrorCode: tooManyStreams}), "the account has %d streams and allows %d (max_streams), and %d are missing: %s", d.account.Streams, most, len(d.missing), strings.Join(d.missing, ", "))
	}
	wants := append(consumer.StreamConfigs(d.cfg.consumerConfig(nil)), ledger.StreamConfig(d.cfg.ledgerConfig()))
	for _, want := range wants {
		key := "nats.max_bytes." + strings.ToLower(strings.TrimPrefix(want.Name, strings.ToUpper(strings.ReplaceAll(d.cfg.natsPrefix, ".", "_"))))
		switch {
		case !slices.Contains(d.missing, want.Name):
		case limits.MaxBytesRequired && want.MaxBytes <= 0:
			d.fail("nats.limits", key+": a size in bytes", "the account demands a size of each stream (max_bytes_required), and %s is not set", key)
		case limits.StoreMaxStreamBytes > 0 && want.MaxBytes > limits.StoreMaxStreamBytes:
			d.fail("nats.limits", fmt.Sprintf("%s: %d", key, limits.StoreMaxStreamBytes), "the account allows no stream of more than %d bytes (max_stream_bytes), and %s is %d", limits.StoreMaxStreamBytes, key, want.MaxBytes)
		}
	}
}

// cluster compares nats.replicas with the cluster, as far as it shows.
func (d *doctor) cluster() {
	name, want := d.nats.ConnectedClusterName(), d.cfg.natsReplicas
	switch {
	case d.cfg.natsDomain != "" || d.cfg.embedded: // the streams are elsewhere, or alone
	case name == "" && want > 1:
		d.warn("nats.replicas", "nats.replicas: 1", "the server is in no cluster, and nats.replicas is %d: such streams can't be made here", want)
	case name != "" && want == 1:
		d.warn("nats.replicas", "nats.replicas: 3", "the server is in cluster %s, and streams would be made with one replica: where that server is lost the ledger is lost", name)
	case want%2 == 0:
		d.warn("nats.replicas", "nats.replicas: 3", "nats.replicas is %d: an even number survives no more than one less", want)
	}
}

// streams judges the four streams as serve would at its start.
func (d *doctor) streams(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	used := ""
	for _, i := range consumer.InspectStreams(ctx, d.nats.js, d.cfg.consumerConfig(nil)) {
		d.stream(i)
		if i.Stream != nil && i.Stream.State.LastSeq > 0 && !strings.HasSuffix(i.Name, "OPERATIONS") {
			used = i.Name
		}
	}
	found, err := ledger.Inspect(ctx, d.nats.js, d.cfg.ledgerConfig())
	i := consumer.Inspection{Name: found.Name, Err: err, Dangers: found.Dangers, Warnings: found.Warnings, Stream: found.Stream}
	if err == nil && found.Stream == nil {
		i.Create = consumer.CreateCommand(ledger.StreamConfig(d.cfg.ledgerConfig()))
		if used != "" {
			d.missing = append(d.missing, i.Name)
			d.fail("stream."+i.Name, "restore it from a copy (nats stream restore) and start settled with --after-restore: see The ledger was lost in deploy/RUNBOOK.md", "the ledger was lost: it is missing, and %s has been used", used)
			return
		}
	}
	d.stream(i)
}

func (d *doctor) stream(i consumer.Inspection) {
	check := "stream." + i.Name
	switch {
	case i.Err != nil:
		d.fail(check, "", "%s", i.Err)
	case i.Stream == nil:
		d.absent(check, i)
		return
	case len(i.Dangers) > 0:
		d.fail(check, "settled doesn't start until this is mended", "%s", strings.Join(i.Dangers, "; "))
	case len(i.Warnings) > 0:
		d.warn(check, "", "%s", strings.Join(i.Warnings, "; "))
	default:
		d.ok(check, "as it should be; %d messages, %d replicas", i.Stream.State.Msgs, i.Stream.Config.Replicas)
	}
	if i.Stream != nil {
		d.replicas(check, i.Stream.Cluster)
	}
}

func (d *doctor) absent(check string, i consumer.Inspection) {
	d.missing = append(d.missing, i.Name)
	switch {
	case i.Lost:
		d.warn(check, "publish again what had no result", "it was lost: it is missing while the ledger has entries")
	case d.cfg.natsManageStreams:
		d.note(check, "", "it is missing: `settled serve` makes it")
	}
	if !d.cfg.natsManageStreams {
		d.fail(check, i.Create, "it is missing, and nats.manage_streams is false")
	}
}

// replicas looks whether a stream's servers are all there.
func (d *doctor) replicas(check string, c *jetstream.ClusterInfo) {
	if c == nil {
		return
	}
	if c.Leader == "" {
		d.fail(check, "start the servers that are down", "it has no leader: nothing can be read or written")
	}
	for _, r := range c.Replicas {
		if r.Offline || !r.Current {
			d.warn(check, "start the server, or look at its log", "its replica on %s is away or behind", r.Name)
		}
	}
}

// durable judges the consumer that all replicas share.
func (d *doctor) durable(ctx context.Context) {
	check := "consumer." + d.cfg.consumerDurable
	for _, name := range d.missing {
		if name == consumer.OutcomesStream(d.cfg.natsPrefix) {
			d.skip(check, "its stream is missing")
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	i := consumer.InspectDurable(ctx, d.nats.js, d.cfg.consumerConfig(nil))
	switch {
	case i.Err != nil:
		d.fail(check, "", "%s", i.Err)
	case i.Create != "" && d.cfg.natsManageStreams:
		d.note(check, "", "it is missing: `settled serve` makes it")
	case i.Create != "":
		d.fail(check, i.Create, "it is missing, and nats.manage_streams is false")
	case len(i.Dangers) > 0:
		d.fail(check, "settled doesn't start until this is mended", "%s", strings.Join(i.Dangers, "; "))
	case len(i.Warnings) > 0:
		d.warn(check, "", "%s", strings.Join(i.Warnings, "; "))
	default:
		d.ok(check, "as it should be; %d outcomes to come, %d in hand, %d requests for more", i.Durable.NumPending, i.Durable.NumAckPending, i.Durable.NumWaiting)
	}
}
