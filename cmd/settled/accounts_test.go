package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/settlement"
)

// rolesScene is one or three servers with the accounts of deploy/nats, settled's streams
// with something in each, and an observer in settled's account, which no deployment has.
type rolesScene struct {
	t       *testing.T
	servers []*server.Server
	leaf    *server.Server // the partner's own server, where the configuration has one
	settled *nats.Conn
	js      jetstream.JetStream
	acks    []string // the reply subjects of outcomes that were delivered and not acknowledged
	session settlement.SessionID

	observer   *nats.Conn
	observerJS jetstream.JetStream
	all        *nats.Subscription // everything in settled's account
	last       map[string]string  // the state after the last attempt
}

const (
	observer = "observer"

	// leafUser is a user without restrictions at the partner's own server: whoever runs
	// that server can have one.
	leafUser = "leaf"
)

// attempt is one thing that a role tries.
type attempt struct {
	name    string
	subject string
	reply   string
	data    string
	listen  string // a subject to subscribe to, instead of a message to publish
	header  nats.Header
}

// A role reaches in settled's account exactly what deploy/nats says, whatever subject,
// reply subject, API call, deliver subject, acknowledgement or inbox it names.
func TestRoles(t *testing.T) {
	rolesEnvironment(t)
	for _, name := range []string{"single.conf", "cluster.conf", "cosign.conf", "cosign-hub.conf", "embedded", "embedded without passwords"} {
		t.Run(name, func(t *testing.T) {
			for _, role := range rolesOf(name) {
				t.Run("as "+role, func(t *testing.T) {
					t.Parallel()
					s := newRolesScene(t, name)
					n := 0
					for _, a := range s.attempts(role) {
						s.try(role, a)
						n++
					}
					time.Sleep(300 * time.Millisecond) // for heartbeats, had a consumer been made
					s.changes(role, attempt{name: "all of them, after a while"}, s.state())
					t.Logf("%s: %d attempts", role, n)
					if n < 60 {
						t.Errorf("only %d attempts", n)
					}
				})
			}
		})
	}
}

func rolesOf(configuration string) []string {
	switch configuration {
	case "cosign.conf":
		return []string{"upstream", "dashboard", "operator", "partner", leafUser}
	case "cosign-hub.conf": // the others are those of cosign.conf
		return []string{leafUser}
	case "embedded without passwords":
		return []string{""}
	}
	return []string{"upstream", "dashboard", "operator"}
}

// roleMay are the subjects in settled's account that each role reaches, and the streams
// that its messages may add to.
var roleMay = map[string]map[string]string{
	"":          {"outcome.x": "OUTCOMES"},
	"upstream":  {"outcome.x": "OUTCOMES", "settled.status": "", "$JS.API.STREAM.INFO.OUTCOMES": "", "$JS.API.STREAM.MSG.GET.OUTCOMES": ""},
	"dashboard": {"settled.status": "", "$JS.API.STREAM.INFO.SETTLEMENTS": "", "$JS.API.STREAM.MSG.GET.SETTLEMENTS": ""},
	"operator": {"outcome.x": "OUTCOMES", "settled.status": "", "$SRV.PING": "", "operation.stop": "OPERATIONS", "operation.resume": "OPERATIONS",
		"operation.replay": "OPERATIONS", "operation.discard": "OPERATIONS", "operation.requeue": "OPERATIONS",
		"$JS.API.STREAM.INFO.OUTCOMES": "", "$JS.API.STREAM.INFO.SETTLEMENTS": "", "$JS.API.STREAM.INFO.DEADLETTERS": "", "$JS.API.STREAM.INFO.OPERATIONS": "",
		"$JS.API.STREAM.MSG.GET.OUTCOMES": "", "$JS.API.STREAM.MSG.GET.SETTLEMENTS": "", "$JS.API.STREAM.MSG.GET.DEADLETTERS": "", "$JS.API.STREAM.MSG.GET.OPERATIONS": "",
		"$JS.API.STREAM.MSG.DELETE.DEADLETTERS": "", "$JS.API.CONSUMER.INFO.OUTCOMES.settled": ""},
	"partner": {"$JS.API.STREAM.MSG.GET.OUTCOMES": ""},
	leafUser:  {"$JS.API.STREAM.MSG.GET.OUTCOMES": ""},
}

// rolesEnvironment sets the variables of the configurations.
func rolesEnvironment(t *testing.T) {
	for _, name := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR", "PARTNER", "ROUTE", "LOCAL"} {
		t.Setenv(name+"_PASSWORD", "test")
	}
	t.Setenv("PARTNER_COSIGN", "cosign.0xpartner")
	for _, name := range []string{"NATS_NAME", "NATS_ROUTE_1", "NATS_ROUTE_2", "HUB"} {
		t.Setenv(name, "nats://127.0.0.1:1") // replaced by the servers' own
	}
}

func newRolesScene(t *testing.T, configuration string) *rolesScene {
	t.Helper()
	s := &rolesScene{t: t, session: settlement.SessionID("0x" + zeros(63) + "1")}
	options := rolesOptions(t, configuration)
	if configuration == "cluster.conf" {
		s.startCluster(options)
	} else {
		s.servers = []*server.Server{s.start(options)}
	}
	if configuration == "cosign-hub.conf" {
		s.startLeaf(rolesOptions(t, "cosign-leaf.conf"), options.LeafNode.Port)
	}
	s.settled = s.as("settled")
	var err error
	s.js, err = jetstream.New(s.settled)
	s.must(err)
	s.fill()
	s.observe()
	return s
}

func rolesOptions(t *testing.T, configuration string) *server.Options {
	t.Helper()
	e := natsconn.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Durable: "settled", Passwords: rolePasswords[configuration]}
	options, err := e.Options()
	if !strings.HasPrefix(configuration, "embedded") {
		options, err = server.ProcessConfigFile(filepath.Join("../../deploy/nats", configuration))
		if err == nil && (!options.SyncAlways || !options.JetStream) {
			t.Errorf("%s: the ledger would not be durable", configuration)
		}
	}
	must(t, err)
	options.Host, options.Port, options.StoreDir, options.NoLog, options.NoSigs, options.SyncAlways = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true, false
	if options.LeafNode.Port != 0 {
		options.LeafNode.Host, options.LeafNode.Port = "127.0.0.1", server.RANDOM_PORT
	}
	return options
}

var rolePasswords = map[string]map[string]string{
	"embedded": {"upstream": "test", "dashboard": "test", "operator": "test"},
}

// start runs a server whose users have the password that s.as gives, settled's account
// with an observer.
func (s *rolesScene) start(options *server.Options) *server.Server {
	s.t.Helper()
	for _, user := range options.Users {
		if user.Username == "settled" {
			options.Users = append(options.Users, &server.User{Username: observer, Password: "test", Account: user.Account})
			user.Password = "test"
			break
		}
	}
	return startNATS(s.t, options)
}

func (s *rolesScene) startCluster(options *server.Options) {
	s.t.Helper()
	var routes []*url.URL
	for i := range 3 {
		port, err := process.FreePort()
		s.must(err)
		member := options.Clone()
		member.ServerName, member.StoreDir = fmt.Sprint("n", i), s.t.TempDir()
		member.Cluster.Host, member.Cluster.Port = "127.0.0.1", port
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port), User: url.UserPassword("route", "test")})
		member.Routes = routes // those before it; the servers tell each other the rest
		s.servers = append(s.servers, s.start(member))
	}
	s.until("there is a leader that knows three servers", func() bool {
		for _, member := range s.servers {
			if member.JetStreamIsLeader() && len(member.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
}

// startLeaf runs the partner's own server, connected to the hub, with a user of
// its account COSIGN that may do everything there.
func (s *rolesScene) startLeaf(options *server.Options, hub int) {
	s.t.Helper()
	options.LeafNode.Remotes[0].URLs = []*url.URL{{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", hub), User: url.UserPassword("leaf", "test")}}
	options.Users = append(options.Users, &server.User{Username: leafUser, Password: "test", Account: options.Users[0].Account})
	s.leaf = s.start(options)
	s.until("the leaf node is connected", func() bool { return s.leaf.NumLeafNodes() == 1 && s.servers[0].NumLeafNodes() == 1 })
}

func (s *rolesScene) until(what string, happened func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (s *rolesScene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// as connects as a user, or without credentials, with what clients of deploy/nats set.
func (s *rolesScene) as(user string) *nats.Conn {
	s.t.Helper()
	options := []nats.Option{nats.MaxReconnects(0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	if user != "" {
		options = append(options, nats.UserInfo(user, "test"), nats.CustomInboxPrefix("_INBOX_"+user))
	}
	at := s.servers[0]
	if user == leafUser && s.leaf != nil {
		at = s.leaf
	}
	nc, err := nats.Connect(at.ClientURL(), options...)
	s.must(err)
	s.t.Cleanup(nc.Close)
	return nc
}

// fill makes the streams and the durable as settled's user may, puts a message in each
// stream, and has three outcomes delivered.
func (s *rolesScene) fill() {
	s.t.Helper()
	ctx := s.t.Context()
	cfg := consumer.Config{ManageStreams: true, Replicas: len(s.servers)}
	_, err := consumer.EnsureStreams(ctx, s.js, cfg)
	s.must(err)
	l, _, err := ledger.Open(ctx, s.js, ledger.Config{Create: true, Fence: time.Minute, Replicas: len(s.servers)})
	s.must(err)
	head, err := l.Head(ctx, s.session)
	s.must(err)
	_, err = l.Append(ctx, head, settlement.Entry{State: settlement.EntryFailed, Session: s.session, Scenario: "x",
		Outcome: settlement.OutcomeRef{Source: "/s", ID: "1", Type: "outcome.x", Digest: zeros(64), Stream: "OUTCOMES", Sequence: 1},
		Error:   settlement.Fail(settlement.UnknownScenario, "x"), DeadLetter: 1, Standing: &settlement.Standing{State: settlement.Free}})
	s.must(err)
	for _, subject := range []string{"outcome.x", "outcome.x", "outcome.x", "deadletter.x"} {
		_, err := s.js.Publish(ctx, subject, []byte("{}"))
		s.must(err)
	}
	_, err = operations.New(s.js, cfg).Stop(ctx, "test")
	s.must(err)
	_, _, err = consumer.EnsureDurable(ctx, s.js, cfg)
	s.must(err)
	c, err := s.js.Consumer(ctx, "OUTCOMES", "settled")
	s.must(err)
	batch, err := c.Fetch(3)
	s.must(err)
	for m := range batch.Messages() {
		s.acks = append(s.acks, m.Reply())
	}
	if s.must(batch.Error()); len(s.acks) != 3 {
		s.t.Fatalf("%d outcomes delivered", len(s.acks))
	}
}

// observe subscribes to everything in settled's account.
func (s *rolesScene) observe() {
	s.t.Helper()
	s.observer = s.as(observer)
	var err error
	s.observerJS, err = jetstream.New(s.observer)
	s.must(err)
	s.until("every server has the streams", func() bool {
		for _, running := range s.servers {
			if z, err := running.Jsz(nil); err != nil || z.Streams != 4 {
				return false
			}
		}
		return true
	})
	s.last = s.state()
	s.all, err = s.observer.SubscribeSync(">")
	s.must(err)
	s.must(s.observer.Flush())
}

// arrived are the subjects of the messages in settled's account since it was last
// called, but settled's own requests and the answers to these and to other accounts.
func (s *rolesScene) arrived() []string {
	s.t.Helper()
	s.must(s.observer.Flush())
	var subjects []string
	for {
		m, err := s.all.NextMsg(time.Nanosecond)
		if err != nil {
			return subjects
		}
		if strings.HasPrefix(m.Reply, "_INBOX_settled.") || strings.HasPrefix(m.Reply, "_INBOX_observer.") || strings.HasPrefix(m.Subject, "_INBOX_observer.") || strings.HasPrefix(m.Subject, "_R_.") && m.Subject != "_R_.forged" || strings.HasPrefix(m.Subject, "$JS.EVENT.") && !strings.HasSuffix(m.Subject, "forged") ||
			strings.HasPrefix(m.Subject, "_INBOX_settled.") && m.Subject != "_INBOX_settled.forged" {
			continue
		}
		subjects = append(subjects, m.Subject)
	}
}

// state is all streams and consumers of every account as the servers show them, and what
// settled's account holds as its leaders say.
func (s *rolesScene) state() map[string]string {
	s.t.Helper()
	state := map[string]string{}
	for _, running := range s.servers {
		z, err := running.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Consumer: true})
		s.must(err)
		for _, account := range z.AccountDetails {
			for _, stream := range account.Streams {
				state[account.Name+": "+stream.Name] = "exists"
				for _, c := range stream.Consumer {
					state[account.Name+": "+stream.Name+" "+c.Name] = "exists"
				}
			}
		}
	}
	ctx := s.t.Context()
	streams := s.observerJS.ListStreams(ctx)
	for info := range streams.Info() {
		name := info.Config.Name
		config, _ := json.Marshal(info.Config)
		state[name] = fmt.Sprintf("%d messages from %d to %d, %s", info.State.Msgs, info.State.FirstSeq, info.State.LastSeq, config)
		if info.State.Consumers == 0 {
			continue
		}
		stream, err := s.observerJS.Stream(ctx, name)
		s.must(err)
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			config, _ := json.Marshal(c.Config)
			state[name+" "+c.Name] = fmt.Sprintf("%d delivered, floor %d, %d unacknowledged, paused %v, %s", c.Delivered.Stream, c.AckFloor.Stream, c.NumAckPending, c.Paused, config)
		}
		s.must(consumers.Err())
	}
	s.must(streams.Err())
	return state
}

// attempts are every subject, reply subject, API call, deliver subject, acknowledgement
// and inbox that a role could try.
func (s *rolesScene) attempts(role string) []attempt {
	var all []attempt
	publish := func(name, subject, reply, data string) {
		all = append(all, attempt{name: name, subject: subject, reply: reply, data: data})
	}
	entry := "settlement.failed." + string(s.session)
	targets := []string{entry, "settlement.closed." + string(s.session), "settlement.closing." + string(s.session), "deadletter.x", "operation.resume", "operation.stop", "operation.x", "operation.reconcile-lease", "operation.reconcile-checkpoint",
		"outcome.x", "cosign.0xpartner", "cosign.0xother", "_INBOX_settled.forged", "_INBOX_operator.forged", "_INBOX.forged", "_R_.forged", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.OUTCOMES.settled.forged",
		"$JS.FC.OUTCOMES.settled.x", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO"}
	for _, subject := range targets {
		publish("publish to "+subject, subject, "", "{}")
	}
	acks := s.ackSubjects()
	for i, ack := range acks {
		for _, data := range []string{"", "+ACK", "+TERM closed_elsewhere", "-NAK", "+NXT"} {
			publish(fmt.Sprintf("acknowledge, form %d, %q", i+1, data), ack, "", data)
		}
	}
	replies := slices.Concat(targets, acks, []string{"$JS.API.STREAM.PURGE.OUTCOMES", "$JS.API.STREAM.DELETE.SETTLEMENTS", "$JS.API.STREAM.MSG.DELETE.OUTCOMES",
		"$JS.API.CONSUMER.DELETE.OUTCOMES.settled", "$JS.API.CONSUMER.PAUSE.OUTCOMES.settled", "$JS.API.CONSUMER.RESET.OUTCOMES.settled", "$JS.ledger.API.STREAM.PURGE.OUTCOMES"})
	for _, subject := range slices.Sorted(maps.Keys(roleMay[role])) {
		for _, reply := range replies {
			publish("publish to "+subject+" with reply subject "+reply, s.local(role, subject), reply, requestFor(subject))
		}
	}
	for i, subject := range slices.Sorted(maps.Keys(roleMay[role])) {
		for _, header := range obeyedHeaders(entry) {
			if _, may := roleMay[role][header.Get("Nats-Trace-Dest")]; may || i > 0 && roleMay[role][subject] == "" {
				continue // where it may publish itself, and one API call stands for all
			}
			all = append(all, attempt{name: fmt.Sprintf("publish to %s with the headers %v", subject, header), subject: s.local(role, subject), reply: "_INBOX_" + role + ".answer", data: requestFor(subject), header: header})
		}
	}
	for _, reply := range replies {
		publish("ask $JS.API.INFO with reply subject "+reply, "$JS.API.INFO", reply, "")
	}
	for _, api := range []string{"$JS.API.", "$JS.ledger.API.", "$JS.outcomes.API."} {
		for _, call := range apiCalls(acks[0], entry) {
			if _, may := roleMay[role]["$JS.API."+call[0]]; !may || api == "$JS.API." {
				publish("call "+api+call[0]+" "+call[2], api+call[0], "_INBOX_"+role+".answer", call[1])
			}
		}
	}
	for _, subject := range []string{">", "*.>", "_INBOX.>", "_INBOX_settled.>", "_INBOX_operator.>", "_INBOX_dashboard.>", "_INBOX_upstream.>", "_INBOX_partner.>", "_R_.>", "outcome.>", "operation.>", "deadletter.>", "settlement.>",
		"$JS.>", "$JS.ACK.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "cosign.>"} {
		all = append(all, attempt{name: "subscribe to " + subject, listen: subject})
	}
	return all
}

// obeyedHeaders are headers by which a server does more with a message than deliver and
// store it: trace it to a subject, replace others, store it later, elsewhere or for a time.
func obeyedHeaders(entry string) (all []nats.Header) {
	for _, pairs := range [][]string{
		{"Nats-Trace-Dest", entry}, {"Nats-Trace-Dest", "operation.resume"}, {"Nats-Trace-Dest", "$JS.API.STREAM.PURGE.OUTCOMES", "Nats-Trace-Only", "true"},
		{"Nats-Trace-Dest", "_INBOX_settled.forged"}, {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"}, {"Nats-Incr", "+1"},
		{"Nats-Schedule", "@at 2000-01-01T00:00:00Z", "Nats-Schedule-Target", entry}, {"Nats-Schedule-Next", "purge", "Nats-Scheduler", "outcome.x"},
		{"Nats-Batch-Id", "x", "Nats-Batch-Sequence", "1"}, {"Nats-Batch-Id", "x", "Nats-Batch-Sequence", "1", "Nats-Batch-Commit", "1"},
		{"Nats-Marker-Reason", "Purge"}, {"Nats-Stream-Source", "SETTLEMENTS 1 > >"}, {"Nats-Expected-Stream", "SETTLEMENTS"}, {"Status", "409"},
	} {
		h := nats.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		all = append(all, h)
	}
	return all
}

// local is a subject of settled's account as a role's own account has it.
func (s *rolesScene) local(role, subject string) string {
	domain := map[bool]string{true: "outcomes", false: natsconn.LedgerDomain}[role == "partner" || role == "leaf"]
	return strings.Replace(subject, "$JS.API.", "$JS."+domain+".API.", 1)
}

func requestFor(subject string) string {
	switch {
	case strings.Contains(subject, "MSG.GET"):
		return `{"seq": 1}`
	case strings.Contains(subject, "MSG.DELETE"):
		return `{"seq": 999}`
	case strings.HasPrefix(subject, "$JS"):
		return ""
	}
	return "{}"
}

// ackSubjects are the subject that acknowledges a delivered outcome, in the form with
// and without domain and account.
func (s *rolesScene) ackSubjects() []string {
	parts := strings.Split(s.acks[0], ".")
	rest := strings.Join(parts[slices.Index(parts, "OUTCOMES"):], ".")
	sum := sha256.Sum256([]byte("SETTLED"))
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	hash := make([]byte, 8)
	for i := range hash {
		hash[i] = digits[int(sum[i])%len(digits)]
	}
	return []string{"$JS.ACK." + rest, "$JS.ACK._." + string(hash) + "." + rest + ".x"}
}

// apiCalls are JetStream API calls that change, create or take something, or read what
// a role may not: subject, request, and what it is about.
func apiCalls(ack, entry string) [][3]string {
	deliver := func(stream, name, to, more string) [3]string {
		return [3]string{"CONSUMER.CREATE." + stream + "." + name, fmt.Sprintf(`{"stream_name":%q,"config":{"name":%q,"deliver_subject":%q,"deliver_policy":"all","ack_policy":"none"%s}}`, stream, name, to, more), "that delivers to " + to + more}
	}
	calls := [][3]string{
		{"STREAM.CREATE.EVIL", `{"name":"EVIL","subjects":["evil"]}`, ""},
		{"STREAM.CREATE.EVIL", `{"name":"EVIL","sources":[{"name":"OUTCOMES"}]}`, "from OUTCOMES"},
		{"STREAM.UPDATE.SETTLEMENTS", `{"name":"SETTLEMENTS","subjects":["settlement.*.*"],"max_age":1000000000}`, "with an age"},
		{"STREAM.LIST", "", ""},
		{"STREAM.NAMES", "", ""},
		{"CONSUMER.CREATE.OUTCOMES.settled.outcome.none", `{"stream_name":"OUTCOMES","action":"update","config":{"durable_name":"settled","filter_subject":"outcome.none","ack_policy":"explicit"}}`, "that changes the filter"},
		{"CONSUMER.DURABLE.CREATE.OUTCOMES.settled", `{"stream_name":"OUTCOMES","config":{"durable_name":"settled","max_deliver":1,"ack_policy":"explicit"}}`, "that changes the durable"},
		{"CONSUMER.DURABLE.CREATE.OUTCOMES.evil", `{"stream_name":"OUTCOMES","config":{"durable_name":"evil","ack_policy":"explicit"}}`, ""},
		{"CONSUMER.CREATE.OUTCOMES", `{"stream_name":"OUTCOMES","config":{"ack_policy":"none"}}`, ""},
		{"CONSUMER.MSG.NEXT.OUTCOMES.settled", `{"batch":1}`, ""},
		{"CONSUMER.DELETE.OUTCOMES.settled", "", ""},
		{"CONSUMER.PAUSE.OUTCOMES.settled", `{"pause_until":"2100-01-01T00:00:00Z"}`, ""},
		{"CONSUMER.RESET.OUTCOMES.settled", `{"seq":1}`, ""},
		{"CONSUMER.UNPIN.OUTCOMES.settled", `{"group":"x"}`, ""},
		{"CONSUMER.LEADER.STEPDOWN.OUTCOMES.settled", "", ""},
		{"CONSUMER.LIST.OUTCOMES", "", ""},
		{"CONSUMER.NAMES.OUTCOMES", "", ""},
		{"ACCOUNT.PURGE.SETTLED", "", ""},
		{"META.LEADER.STEPDOWN", "", ""},
		deliver("SETTLEMENTS", "evil", "operation.resume", ""),
		deliver("SETTLEMENTS", "evil", "operation.resume", `,"idle_heartbeat":100000000`),
		deliver("SETTLEMENTS", "evil", "$JS.API.STREAM.PURGE.OUTCOMES", ""),
		deliver("SETTLEMENTS", "evil", ack, `,"headers_only":true`),
		deliver("OUTCOMES", "evil", entry, ""),
		deliver("OUTCOMES", "evil", "_INBOX.x", `,"idle_heartbeat":100000000,"flow_control":true`),
	}
	for _, stream := range []string{"OUTCOMES", "SETTLEMENTS", "DEADLETTERS", "OPERATIONS"} {
		calls = append(calls, [3]string{"STREAM.DELETE." + stream, "", ""}, [3]string{"STREAM.PURGE." + stream, "", ""}, [3]string{"STREAM.MSG.DELETE." + stream, `{"seq":1}`, ""},
			[3]string{"STREAM.INFO." + stream, "", ""}, [3]string{"STREAM.MSG.GET." + stream, `{"seq":1}`, ""},
			[3]string{"DIRECT.GET." + stream, `{"seq":1}`, ""}, [3]string{"STREAM.SNAPSHOT." + stream, `{"deliver_subject":"operation.resume"}`, ""},
			[3]string{"STREAM.RESTORE." + stream, `{"config":{"name":"EVIL"}}`, ""}, [3]string{"STREAM.LEADER.STEPDOWN." + stream, "", ""}, [3]string{"STREAM.PEER.REMOVE." + stream, `{"peer":"x"}`, ""})
	}
	return calls
}

// try makes one attempt with a connection of its own, and prints what came of it.
func (s *rolesScene) try(role string, a attempt) {
	s.t.Helper()
	nc := s.as(role)
	defer nc.Close()
	answers, err := nc.SubscribeSync("_INBOX_" + role + ".answer")
	s.must(err)
	if a.listen != "" {
		result := s.listen(role, nc, a)
		s.t.Logf("%-10s %-100s %s; %s", role, a.name, result, s.changes(role, a, s.state()))
		return
	}
	s.must(nc.PublishMsg(&nats.Msg{Subject: a.subject, Reply: a.reply, Header: a.header, Data: []byte(a.data)}))
	s.processed(role, nc)
	result := "sent"
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), "Violation for Publish") {
		result = "refused"
	}
	after := s.state()
	if grows := roleMay[role][a.subject]; grows != "" && result != "refused" && a.header == nil {
		s.until(role+", "+a.name+": stored", func() bool {
			after = s.state()
			return after[grows] != s.last[grows]
		})
	}
	if a.header != nil { // whether it is stored depends on them
		if m, err := answers.NextMsg(300 * time.Millisecond); err == nil {
			result = fmt.Sprintf("answered %.60s", m.Data)
		}
		after = s.state()
	} else if m, err := answers.NextMsg(time.Nanosecond); err == nil {
		result = fmt.Sprintf("answered %.60s", m.Data)
		if !strings.Contains(string(m.Data), `"error"`) {
			s.t.Errorf("%s may %s: %s", role, a.name, m.Data)
		}
	}
	s.t.Logf("%-10s %-100s %s; %s", role, a.name, result, s.changes(role, a, after))
}

// processed returns when the servers have processed what a connection sent: the hub
// answers a request that follows it on the same way.
func (s *rolesScene) processed(role string, nc *nats.Conn) {
	s.t.Helper()
	s.must(nc.Flush())
	if role == leafUser && s.leaf != nil {
		_, err := nc.Request(s.local(role, "$JS.API.STREAM.MSG.GET.OUTCOMES"), []byte(`{"seq": 1}`), patience)
		s.must(err)
	}
}

// listen subscribes while every other user gets answers and settled works, and must
// hear nothing but what the role may: results and entries.
func (s *rolesScene) listen(role string, nc *nats.Conn, a attempt) (result string) {
	s.t.Helper()
	heard, err := nc.SubscribeSync(a.listen)
	s.must(err)
	s.must(nc.Flush())
	refused := errors.Is(nc.LastError(), nats.ErrPermissionViolation)
	s.state() // settled's own requests and answers
	for _, other := range []string{"upstream", "dashboard", "operator"} {
		if other == role || role == "" {
			continue
		}
		c := s.as(other)
		_, _ = c.Request("$JS.API.INFO", nil, 2*time.Second)
		c.Close()
	}
	s.must(nc.Flush())
	result = "refused"
	if !refused {
		result = "subscribed, nothing heard"
	}
	for {
		m, err := heard.NextMsg(time.Nanosecond)
		if err != nil {
			return result
		}
		result = "received " + m.Subject
		s.t.Errorf("%s, %s: %s: %.80s", role, a.name, m.Subject, m.Data)
	}
}

// changes compares what settled's account holds, and what arrived in it, with what the
// role may do by the very message that it published.
func (s *rolesScene) changes(role string, a attempt, after map[string]string) (text string) {
	s.t.Helper()
	before := s.last
	s.last = after
	target := strings.Replace(strings.Replace(a.subject, "$JS."+natsconn.LedgerDomain+".API.", "$JS.API.", 1), "$JS.outcomes.API.", "$JS.API.", 1)
	if strings.HasPrefix(a.subject, "$JS.API.") {
		target = "" // the role's own account has no JetStream
	}
	grows, may := roleMay[role][target]
	text = "nothing changed"
	for name := range after {
		switch {
		case before[name] == after[name]:
		case may && grows != "" && (name == grows || name == grows+" settled"):
			text = "stored in " + grows
		default:
			s.t.Errorf("%s, %s: %s was %s\nand is %s", role, a.name, name, before[name], after[name])
		}
	}
	for name := range before {
		if after[name] == "" {
			s.t.Errorf("%s, %s: %s is gone", role, a.name, name)
		}
	}
	for _, subject := range s.arrived() {
		if subject == "$JS.API.STREAM.MSG.GET.OUTCOMES" && role == leafUser && s.leaf != nil {
			continue // s.processed asked for it
		}
		if subject != target || !may {
			s.t.Errorf("%s, %s: a message on %s arrived in settled's account", role, a.name, subject)
		}
	}
	return text
}

func zeros(n int) string { return strings.Repeat("0", n) }
