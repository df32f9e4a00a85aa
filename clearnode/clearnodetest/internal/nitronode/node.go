// Package nitronode simulates nitronode 1.4.1.
package nitronode

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"golang.org/x/time/rate"

	"settled/clearnode/clearnodetest/internal/server"
)

// What a connection may send; beyond it the node ends the connection. The frames per second were recorded (testdata/v1), the
// rest is from nitronode's source.
const (
	frameBytes     = 128 << 10
	bytesPerSecond = 256 << 10
	bytesAtOnce    = 1 << 20
	framesPerSec   = 10
	framesAtOnce   = 20
)

// Node is the node's state and what only this generation keeps.
type Node struct {
	*server.State
	channels    channels
	states      map[*server.Session][]state // what each session went through, newest last
	submissions map[string][]*Submission
}

// New makes a node.
func New(s *server.State) *Node {
	n := &Node{
		State: s, channels: newChannels(), states: map[*server.Session][]state{}, submissions: map[string][]*Submission{},
	}
	n.Ledger.OnFund = n.recordFunding
	return n
}

// Transport limits what a connection may send, and pings it.
func (n *Node) Transport() server.Transport {
	t := server.Transport{
		QueueLength: 64, DropWhenFull: true, FrameBytes: frameBytes, PingInterval: 5 * time.Second, PongTimeout: 10 * time.Second,
	}
	if n.Config.RateLimit >= 0 {
		t.NewRateLimiter = n.newRateLimiter
	}
	return t
}

func (n *Node) newRateLimiter() func(size int) bool {
	perSecond, atOnce := n.Config.RateLimit, n.Config.RateBurst
	if perSecond == 0 {
		perSecond = framesPerSec
	}
	if atOnce <= 0 {
		atOnce = framesAtOnce
	}
	bytes, frames := rate.NewLimiter(bytesPerSecond, bytesAtOnce), rate.NewLimiter(rate.Limit(perSecond), atOnce)
	return func(size int) bool {
		now := time.Now()
		return bytes.AllowN(now, size) && frames.AllowN(now, 1)
	}
}

// Payout returns the amount of the newest release of a session to a participant.
func (n *Node) Payout(session, participant, asset string) *decimal.Decimal {
	var amount *decimal.Decimal
	for _, t := range n.channels.transactions {
		if t.Kind == release && strings.EqualFold(t.From, session) && strings.EqualFold(t.To, participant) && t.Asset == asset {
			amount = &t.Amount
		}
	}
	return amount
}

const submitMethod = "app_sessions.v1.submit_app_state"

type call = func(*Node, *server.Conn, *request) (any, error)

var methods = map[string]call{
	"node.v1.ping":                       (*Node).ping,
	"node.v1.get_config":                 (*Node).getConfig,
	"node.v1.get_assets":                 locked((*Node).getAssets),
	"app_sessions.v1.create_app_session": locked((*Node).createAppSession),
	"app_sessions.v1.get_app_definition": locked((*Node).getAppDefinition),
	"app_sessions.v1.get_app_sessions":   (*Node).getAppSessions,
	"user.v1.get_balances":               locked((*Node).getBalances),
	"user.v1.get_transactions":           locked((*Node).getTransactions),
	submitMethod:                         (*Node).submitAppState,
}

// locked is a call that gets the parsed payload while the node is locked.
func locked[P any](run func(*Node, P) (any, error)) call {
	return func(n *Node, _ *server.Conn, r *request) (any, error) {
		var p P
		if err := r.parse(&p); err != nil {
			return nil, err
		}
		n.Lock()
		defer n.Unlock()
		return run(n, p)
	}
}

// Methods are the names of the calls.
func (n *Node) Methods() []string { return server.SortedKeys(methods) }

// Handle serves one frame.
func (n *Node) Handle(c *server.Conn, frame []byte) bool {
	r, err := decode(frame)
	if err == nil && !n.Arrive(c, &r.Request) {
		return false
	}
	submission := n.recordRequest(r)
	run, known := methods[r.Method]
	if err == nil && !known {
		err = errors.New("unknown method: " + r.Method)
	}
	fault := server.Fault{Kind: server.NoFault}
	var payload any
	if err == nil {
		fault = n.StrikeAnswer(&r.Request, server.ExpireAuth, server.WrongSignature)
		payload, err = n.Run(&r.Request, fault, func() (any, error) { return run(n, c, r) })
	}
	return n.Finish(c, &r.Request, submission.outcome(err), fault, func() []byte {
		return encode(r, payload, err, server.Millis(n.Config.Now()))
	})
}

// Submission is one submit_app_state that reached a NitronodeV1. On success its Answer is "operated", "withdrawn" or "closed".
type Submission struct {
	server.CloseRecord
	Intent  Intent
	Version string // as sent
}

func (s *Submission) outcome(err error) string {
	switch {
	case err != nil:
		return err.Error()
	case s == nil:
		return ""
	}
	return map[Intent]string{IntentOperate: "operated", IntentWithdraw: "withdrawn", IntentClose: "closed"}[s.Intent]
}

// recordRequest records a request, and if it is a state update, returns its record.
func (n *Node) recordRequest(r *request) *Submission {
	if r.Method != submitMethod {
		n.RecordRequest(&r.Request, false)
		return nil
	}
	var p SubmitParams
	_ = json.Unmarshal(r.payload, &p) // a payload that can't be read is refused later
	s := &Submission{
		CloseRecord: server.CloseRecord{Received: n.Config.Now(), Timestamp: r.Timestamp}, Intent: p.Update.Intent, Version: p.Update.Version,
	}
	n.Lock()
	r.Close = &s.CloseRecord
	n.submissions[r.Session()] = append(n.submissions[r.Session()], s)
	n.Unlock()
	n.RecordRequest(&r.Request, s.Intent == IntentClose)
	return s
}

// Submissions are the state updates of a session in the order in which the node received them.
func (n *Node) Submissions(session string) []Submission {
	n.Lock()
	defer n.Unlock()
	var all []Submission
	for _, s := range n.submissions[session] {
		all = append(all, *s)
	}
	return all
}
