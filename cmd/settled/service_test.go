package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/demo"
	"settled/settlement"
)

var verifyAnswer = clearnode.VerifyAnswer

func TestSameOutcomeTenTimes(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	var last uint64
	for range 10 {
		last = d.publish("partial_service", "one", session, d.partial())
	}
	other := d.publish("cancellation", "two", session, nil)
	d.wantCode(d.result(session, other), settlement.OutcomeConflict)
	d.until("every message is answered", d.answered)
	var closed int
	for _, e := range d.entries(session) {
		if e.State == settlement.EntryClosed {
			closed++
		}
	}
	if closed != 1 || len(d.node.Closes(string(session))) != 1 {
		t.Errorf("%d closed entries, %d closes, after message %d", closed, len(d.node.Closes(string(session))), last)
	}
	d.verify(1)
}

// Every scenario, in both content modes, with addresses in lower case: the node's
// own books show exactly what the ledger says (verify compares them row by row).
func TestEveryScenario(t *testing.T) {
	d := deploy(t)
	d.serve()
	alice, bob := strings.ToLower(addressOf(d.players[0])), strings.ToLower(addressOf(d.players[1]))
	awards := []any{map[string]any{"participant": alice, "share": "0.75"}, map[string]any{"participant": bob, "share": "0.25"}}
	amounts := []any{
		map[string]any{"participant": alice, "asset": "usdc", "amount": "15.000001"}, map[string]any{"participant": bob, "asset": "weth", "amount": "0.5"},
	}
	outcomes := []struct {
		scenario string
		data     map[string]any
		paid     string // to alice and bob, usdc and weth
	}{
		{"payment_completed", map[string]any{"parties": map[string]any{"provider": bob}}, "0 0 15.000001 0.5"},
		{"game_completed", map[string]any{"parties": map[string]any{"winner": []string{bob, alice}}}, "7.500001 0.25 7.5 0.25"},
		{"partial_service", map[string]any{"parties": map[string]any{"provider": bob}, "completion": "0.3"}, "7 0.35 8.000001 0.15"},
		{"cancellation", map[string]any{}, "10 0.5 5.000001 0"},
		{"dispute_resolved", map[string]any{"awards": awards}, "11.250001 0.375 3.75 0.125"},
		{"dispute_resolved", map[string]any{"awards": amounts}, "15.000001 0 0 0.5"},
	}
	n := 0
	for _, c := range outcomes {
		for _, binary := range []bool{false, true} {
			n++
			session := d.open()
			c.data["session_id"] = "0x" + strings.ToUpper(string(session[2:]))
			msg, err := demo.Message("", c.scenario, fmt.Sprint(n), c.data, binary)
			d.must(err)
			ack, err := d.nats.JS.PublishMsg(t.Context(), msg)
			d.must(err)
			var got []string
			for _, a := range d.result(session, ack.Sequence).Allocation {
				got = append(got, a.Amount.String())
			}
			if len(got) != 6 || strings.Join(got[:4], " ") != c.paid || got[4] != "0" || got[5] != "0" {
				t.Errorf("%s pays %v, want %s and nothing to the judge", c.scenario, got, c.paid)
			}
		}
	}
	d.verify(n)
}

// The key, and the token it is exchanged for, are in no log, whatever the level.
func TestNothingSecretIsLogged(t *testing.T) {
	d := deploy(t)
	var out lockedBuffer
	d.log = zerolog.New(&out).Level(zerolog.TraceLevel)
	_, stop := d.serve()
	session := d.open()
	d.result(session, d.publish("partial_service", "x", session, d.partial()))
	d.node.Inject(clearnodetest.Fault{Method: "get_ledger_transactions", Kind: clearnodetest.WrongSignature})
	d.node.DropConnections()
	other := d.open()
	d.result(other, d.publish("partial_service", "y", other, d.partial()))
	stop()
	key := hex.EncodeToString(crypto.FromECDSA(d.judge))
	text := out.String()
	if !strings.Contains(text, "outcome settled") {
		t.Error("nothing was logged at all")
	}
	for what, secret := range map[string]string{"the key": key, "a token": "eyJ", "a frame": `req\":[`} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
			t.Errorf("%s is in the log", what)
		}
	}
	d.verify(2)
}

// lockedBuffer takes a log from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestFailuresDontHoldUpTheNext(t *testing.T) {
	d := deploy(t)
	d.serve()
	session, unknown := d.open(), settlement.SessionID("0x"+fmt.Sprintf("%064x", 7))
	stranger := "0x00000000000000000000000000000000000000aa"
	award := []any{map[string]any{"participant": stranger, "share": "1.5"}}
	for _, c := range []struct {
		code     settlement.Code
		session  settlement.SessionID
		sequence uint64
	}{
		{settlement.InvalidOutcome, "", d.publishRaw("cancellation", []byte("garbage"))},
		{settlement.SessionNotFound, unknown, d.publish("cancellation", "a", unknown, nil)},
		{settlement.NotAParticipant, session, d.publish("payment_completed", "b", session, map[string]any{"parties": map[string]any{"provider": stranger}})},
		{settlement.ExpectationFailed, session, d.publish("cancellation", "c", session, map[string]any{"expect": map[string]any{"totals": []any{}}})},
		{settlement.InvalidOutcome, session, d.publish("dispute_resolved", "d", session, map[string]any{"awards": award})},
		{settlement.UnknownScenario, session, d.publish("no_such", "e", session, nil)},
	} {
		d.wantCode(d.result(c.session, c.sequence), c.code)
	}
	good := d.publish("partial_service", "f", session, d.partial())
	d.wantClosed(session, good)
	if n := len(d.letters()); n != 6 {
		t.Errorf("%d dead letters, want 6", n)
	}
	d.verify(1)
}

// The node is away while outcomes wait: none is dead-lettered, all are closed
// once it is back.
func TestNodeAway(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	s, _ := d.serve()
	d.node.Stop()
	d.until("the service notices", func() bool { return s.Ready() != nil && s.Status().Intake.Paused })
	type waiting struct {
		session  settlement.SessionID
		sequence uint64
	}
	var all []waiting
	for i := range 150 {
		session := d.open()
		all = append(all, waiting{session, d.publish("partial_service", fmt.Sprint(i), session, d.partial())})
	}
	d.node.Resume()
	for _, w := range all {
		d.wantClosed(w.session, w.sequence)
	}
	if letters := d.letters(); len(letters) != 0 {
		t.Errorf("%d dead letters: %+v", len(letters), letters[0])
	}
	d.verify(len(all))
}

// The answer is lost and the connection cut: found closed, and recorded so.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []clearnodetest.FaultKind{clearnodetest.CutAfter, clearnodetest.Garbage, clearnodetest.WrongSignature} {
		t.Run(fmt.Sprint("fault ", kind), func(t *testing.T) {
			d := deploy(t)
			d.cfg.NodeRequestTimeout = 2 * time.Second
			d.serve()
			session := d.open()
			d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: kind})
			e := d.result(session, d.publish("partial_service", "x", session, d.partial()))
			if e.State != settlement.EntryClosed || !*e.Recovered || *e.SessionVersion != 2 {
				t.Errorf("%s %+v", e.State, e)
			}
			if n := len(d.node.Closes(string(session))); n != 1 {
				t.Errorf("%d closes were sent", n)
			}
			d.verify(1)
		})
	}
}

// A close is held up in the network and its sender cut off. No second close is
// sent while the first may take effect; a stranger's outcome and garbage that come
// meanwhile neither shorten the fence nor change the result.
func TestCloseHeldUp(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]time.Duration{"lands in time": time.Second, "comes too late": testValidity + 2*time.Second} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.cfg.NodeRequestTimeout = 500 * time.Millisecond
			d.serve()
			session := d.open()
			struck := make(chan struct{}, 1)
			d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Delay, Delay: hold, Struck: struck})
			first := d.publish("partial_service", "x", session, d.partial())
			<-struck
			d.node.DropConnections()
			other := d.publish("cancellation", "y", session, nil)
			garbage, _ := json.Marshal(map[string]any{"session_id": session}) // no event, but it names the session
			junk := d.publishRaw("partial_service", garbage)
			d.wantCode(d.result(session, other), settlement.OutcomeConflict)
			d.wantClosed(session, first)
			d.wantCode(d.result(session, junk), settlement.InvalidOutcome)
			d.checkFence(session, false) // it was cut off
			d.verify(1)
		})
	}
}

// checkFence holds every close that reached the node to the intents recorded
// before it. A close that came too late for the node was refused before anything
// was done: where senders may have heard that, they need not wait.
func (d *deployment) checkFence(session settlement.SessionID, heard bool) {
	d.t.Helper()
	until := map[uint64]time.Time{}
	for _, e := range d.entries(session) {
		if e.Request != nil {
			until[e.Request.Timestamp] = *e.ValidUntil
		}
	}
	closes := d.node.Closes(string(session))
	// As they were signed: one that was held up may reach the node, and be refused,
	// after the one that was sent when its fence had expired.
	slices.SortStableFunc(closes, func(a, b clearnodetest.CloseRecord) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	for i, c := range closes {
		if _, recorded := until[c.Timestamp]; !recorded {
			d.t.Errorf("close %d was sent without an intent", i)
		}
		if i == 0 || heard && !closes[i-1].Committed && closes[i-1].Answer == "invalid message timestamp" {
			continue
		}
		if c.Received.Before(until[closes[i-1].Timestamp]) {
			d.t.Errorf("close %d came at %s, the one before could take effect until %s and was answered %q", i, c.Received, until[closes[i-1].Timestamp], closes[i-1].Answer)
		}
	}
}

// A settled session costs its reads once: transactions, definition and version,
// and one close.
func TestReadsAreFew(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.serve()
	// Connections go on signing in, being probed and kept alive meanwhile.
	counted := func() int {
		all := d.node.Requests("")
		for _, aside := range []string{"auth_request", "auth_verify", "get_ledger_balances", "ping"} {
			all -= d.node.Requests(aside)
		}
		return all
	}
	before := counted()
	assets := d.node.Requests("get_assets")
	const n = 20
	for i := range n {
		session := d.open()
		d.result(session, d.publish("partial_service", fmt.Sprint(i), session, d.partial()))
	}
	if got := d.node.Requests("get_app_definition"); got != n {
		t.Errorf("%d reads of %d definitions", got, n)
	}
	if got := d.node.Requests("get_assets") - assets; got > 1 {
		t.Errorf("assets were read %d times", got)
	}
	if got := counted() - before; got > 4*n+10 {
		t.Errorf("%d requests for %d sessions", got, n)
	}
	d.verify(n)
}

// Two services share the work; one stops in the middle of it.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	_, stop := d.serve()
	d.serve()
	sequences := map[settlement.SessionID]uint64{}
	for i := range 60 {
		session := d.open()
		sequences[session] = d.publish("partial_service", fmt.Sprint(i), session, d.partial())
		if i == 30 {
			stop()
		}
	}
	for session, sequence := range sequences {
		d.wantClosed(session, sequence)
	}
	d.verify(len(sequences))
}

// answered reports whether the consumer has acknowledged every message.
func (d *deployment) answered() bool {
	durable, err := d.nats.JS.Consumer(d.t.Context(), "OUTCOMES", "settled")
	if err != nil {
		return false
	}
	info, err := durable.Info(d.t.Context())
	return err == nil && info.NumPending == 0 && info.NumAckPending == 0
}
