package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

// The stories in whose course the requests come.
var (
	settles = twinStory{members: (*twinScene).settling}
	fails   = twinStory{code: settlement.NotAParticipant, members: func(d *twinScene) map[string]any {
		members := d.settling()
		members["parties"].(map[string]any)["provider"] = "0x00000000000000000000000000000000000000AA"
		return members
	}}
	conflicts = twinStory{code: settlement.OutcomeConflict, second: true, members: (*twinScene).settling}
	versioned = twinStory{members: func(d *twinScene) map[string]any {
		members := d.settling()
		members["expect"] = map[string]any{"version": 1}
		return members
	}}
	later = twinStory{members: (*twinScene).settling, after: true}
	typed = twinStory{publish: (*twinScene).publishByCommand}
	anew  = twinStory{members: (*twinScene).settling, after: true, prepare: (*twinScene).deleteStreams}
)

// publishByCommand repeats `settled publish` until it says that it is done, as its
// users would.
func (d *twinScene) publishByCommand(session settlement.SessionID) uint64 {
	var p publishResult
	d.until("the command succeeds", func() bool {
		status, stdout, _ := d.command("publish", "partial_service", "--session", string(session), "--party", "provider="+addressOf(d.players[1]),
			"--completion", "0.3333333", "--id", d.id("typed"), "-o", "json")
		return status == exitDone && json.Unmarshal([]byte(stdout), &p) == nil
	})
	return p.Sequence
}

// deleteStreams makes the next service the first one there is.
func (d *twinScene) deleteStreams() {
	for name := range d.nats.JS.StreamNames(context.Background()).Name() {
		d.must(d.nats.JS.DeleteStream(context.Background(), name))
	}
}

// natsTwins are the requests to NATS. How long a slow one is held up is longer than
// its own time-out.
func natsTwins() []twinOp {
	var ops []twinOp
	add := func(name string, story twinStory, early bool, faults []twinFault, hold time.Duration, hits func(settlement.SessionID) func(natsFrame) bool) {
		for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.NitronodeV1} {
			if protocol == clearnodetest.NitronodeV1 && !strings.HasPrefix(name, "append") {
				continue // what isn't about the entries is the same with every node
			}
			ops = append(ops, twinOp{name: name, protocol: protocol, story: story, early: early, faults: faults, slow: hold > 6*time.Second,
				arm: func(d *twinScene, wrong twinFault, session settlement.SessionID) <-chan struct{} {
					return d.proxy.add(wrong, hold, hits(session))
				}})
		}
	}
	add("fetch messages", settles, true, allFaults, 12*time.Second, to("$JS.API.CONSUMER.MSG.NEXT.OUTCOMES.settled"))
	add("publish an outcome", typed, false, allFaults, 11*time.Second, to("outcome.partial_service"))
	add("read the ledger's head", conflicts, false, allFaults, 6*time.Second, about("$JS.API.STREAM.MSG.GET.SETTLEMENTS", "last_by_subj"))
	add("read the ledger's history", conflicts, false, allFaults, 6*time.Second, about("$JS.API.STREAM.MSG.GET.SETTLEMENTS", "next_by_subj"))
	add("append closing", settles, false, allFaults, 3*time.Second, about("settlement.closing.", ""))
	add("append closed", settles, false, allFaults, 3*time.Second, about("settlement.closed.", ""))
	add("append failed", fails, false, allFaults, 3*time.Second, about("settlement.failed.", ""))
	add("store a dead letter", fails, false, allFaults, 6*time.Second, about("deadletter.", ""))
	add("look at the stream", later, false, allFaults, 3*time.Second, to("$JS.API.STREAM.INFO.OUTCOMES"))
	add("look at the consumer", later, false, allFaults, 3*time.Second, to("$JS.API.CONSUMER.INFO.OUTCOMES.settled"))
	add("create the stream of outcomes", anew, true, allFaults, 11*time.Second, to("$JS.API.STREAM.CREATE.OUTCOMES"))
	add("create the stream of dead letters", anew, true, allFaults, 11*time.Second, to("$JS.API.STREAM.CREATE.DEADLETTERS"))
	add("create the stream of operations", anew, true, allFaults, 11*time.Second, to("$JS.API.STREAM.CREATE.OPERATIONS"))
	add("create the ledger", anew, true, allFaults, 11*time.Second, to("$JS.API.STREAM.CREATE.SETTLEMENTS"))
	add("create the consumer", anew, true, allFaults, 11*time.Second, under("$JS.API.CONSUMER.CREATE.OUTCOMES.settled."))
	add("acknowledge", settles, false, allFaults, 3*time.Second, answers("+ACK"))
	add("terminate", fails, false, noAnswerFaults, 3*time.Second, answers("+TERM"))
	add("give back", settles, false, noAnswerFaults, 3*time.Second, answers("-NAK"))
	add("keep alive", settles, false, noAnswerFaults, 2*time.Second, answers("+WPI"))
	for i := range ops {
		ops[i].disturbNode()
	}
	return ops
}

// disturbNode makes the node do what leads to the request.
func (op *twinOp) disturbNode() {
	arm := op.arm
	read := clearnodetest.Fault{Method: "get_ledger_transactions"}
	switch op.name {
	case "give back":
		read.Kind, read.Text = clearnodetest.Error, "internal error"
	case "keep alive":
		read.Kind, read.Delay = clearnodetest.DelayAnswer, 2500*time.Millisecond
		op.change = func(c *config.Config) { c.ConsumerAckWait, c.NodeRequestTimeout = time.Second, 5*time.Second }
	default:
		return
	}
	op.arm = func(d *twinScene, wrong twinFault, session settlement.SessionID) <-chan struct{} {
		f := read
		f.Session = string(session)
		d.node.Inject(f)
		return arm(d, wrong, session)
	}
}

// to, under, about and answers choose requests: by subject, by its beginning, by
// that and the session, and by what is answered to a message.
func to(subject string) func(settlement.SessionID) func(natsFrame) bool {
	return func(settlement.SessionID) func(natsFrame) bool {
		return func(f natsFrame) bool { return f.subject == subject }
	}
}

func under(subject string) func(settlement.SessionID) func(natsFrame) bool {
	return func(settlement.SessionID) func(natsFrame) bool {
		return func(f natsFrame) bool { return strings.HasPrefix(f.subject, subject) }
	}
}

func about(subject, text string) func(settlement.SessionID) func(natsFrame) bool {
	return func(session settlement.SessionID) func(natsFrame) bool {
		return func(f natsFrame) bool {
			return strings.HasPrefix(f.subject, subject) && f.holds(text) && (f.holds(string(session)) || strings.HasSuffix(f.subject, string(session)))
		}
	}
}

func answers(text string) func(settlement.SessionID) func(natsFrame) bool {
	return func(settlement.SessionID) func(natsFrame) bool {
		return func(f natsFrame) bool {
			return strings.HasPrefix(f.subject, "$JS.ACK.OUTCOMES.settled.") && strings.HasPrefix(string(f.body), text)
		}
	}
}

// nodeMethod is one request to a generation of node.
type nodeMethod struct {
	name, method string
	early        bool
	session      bool   // it names the session
	error        string // what the node answers where it fails: words that prove nothing
}

var nitroMethods = []nodeMethod{
	{"ping", "ping", true, false, "internal error"},
	{"sign in: ask", "auth_request", true, false, "failed to generate challenge"},
	{"sign in: verify", "auth_verify", true, false, "failed to verify"},
	{"probe the message expiry", "get_ledger_balances", true, false, "internal error"},
	{"read assets", "get_assets", true, false, "internal error"},
	{"read a session's definition", "get_app_definition", false, true, "internal error"},
	{"read a session's money", "get_ledger_transactions", false, true, "failed to get transactions"},
	{"read a session's version", "get_app_sessions", false, false, "failed to get app sessions"},
	{"close", "close_app_session", false, true, "failed to close application session"},
}

var nodeMethods = map[string][]nodeMethod{
	clearnodetest.Nitro02: nitroMethods[len(nitroMethods)-2:], // the rest is the same code as with 0.4
	clearnodetest.Nitro04: nitroMethods,
	clearnodetest.Legacy: {
		{"ping", "ping", true, false, "internal error"},
		{"sign in: ask", "auth_request", true, false, "internal error"},
		{"sign in: verify", "auth_verify", true, false, "internal error"},
		{"probe the message expiry", "get_config", true, false, "internal error"},
		{"read assets", "get_assets", true, false, "internal error"},
		{"read a session's definition", "get_app_definition", false, true, "internal error"},
		{"read sessions", "get_app_sessions", false, false, "internal error"},
		{"close", "close_app_session", false, true, "Failed to close application: sql: connection is already closed"},
	},
	clearnodetest.NitronodeV1: {
		{"ping", "node.v1.ping", true, false, "internal error"},
		{"read the configuration", "node.v1.get_config", true, false, "internal error"},
		{"read assets", "node.v1.get_assets", true, false, "internal error"},
		{"read a session", "app_sessions.v1.get_app_sessions", false, true, "internal error"},
		{"read a wallet's money", "user.v1.get_transactions", false, false, "internal error"},
		{"operate", "app_sessions.v1.submit_app_state", false, true, "failed to process app state update"},
		{"close", "app_sessions.v1.submit_app_state", false, true, "failed to process app state update"},
	},
}

// nodeTwins are the requests to the node, of every generation.
func nodeTwins() []twinOp {
	var ops []twinOp
	for _, protocol := range []string{clearnodetest.Legacy, clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1} {
		for _, m := range nodeMethods[protocol] {
			op := twinOp{name: "node: " + m.name, protocol: protocol, story: settles, early: m.early, faults: allFaults, slow: m.method == "node.v1.ping", arm: m.arm}
			if m.name == "read a session's version" {
				op.story = versioned
			}
			if protocol == clearnodetest.NitronodeV1 && m.name == "close" {
				op.arm = m.armSecond
			}
			ops = append(ops, op)
		}
	}
	return ops
}

var nodeFaults = map[twinFault]clearnodetest.FaultKind{
	notApplied: clearnodetest.Error, yetApplied: clearnodetest.ErrorApplied, slowRequest: clearnodetest.Delay,
	slowAnswer: clearnodetest.DelayAnswer, cutBefore: clearnodetest.LoseRequest, cutAfter: clearnodetest.CutAfter,
}

func (m nodeMethod) arm(d *twinScene, wrong twinFault, session settlement.SessionID) <-chan struct{} {
	struck := make(chan struct{}, 1)
	d.node.Inject(m.fault(wrong, session, struck))
	return struck
}

func (m nodeMethod) fault(wrong twinFault, session settlement.SessionID, struck chan<- struct{}) clearnodetest.Fault {
	f := clearnodetest.Fault{Method: m.method, Kind: nodeFaults[wrong], Delay: 1500 * time.Millisecond, Text: m.error, Struck: struck}
	if m.session {
		f.Session = string(session)
	}
	return f
}

// armSecond spoils the session's second state update: the first one's answer is held
// back until the fault stands ready.
func (m nodeMethod) armSecond(d *twinScene, wrong twinFault, session settlement.SessionID) <-chan struct{} {
	operated, release, struck := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	d.node.Inject(clearnodetest.Fault{Method: m.method, Session: string(session), Kind: clearnodetest.DelayAnswer, Release: release, Struck: operated})
	d.arming.Go(func() {
		defer close(release)
		select {
		case <-operated:
			d.node.Inject(m.fault(wrong, session, struck))
		case <-d.t.Context().Done():
		}
	})
	return struck
}
