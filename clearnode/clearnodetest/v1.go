package clearnodetest

import (
	"encoding/json"
	"errors"
)

// nitronode is how nitronode 1.4.1 serves: no greeting, no login, no notifications, and a limit on what a connection may send.
var nitronode = dialect{
	queue: 64, greet: func(*Node, *conn) {}, read: (*conn).readLimited, write: (*conn).writeAndPing, handle: (*Node).handleV1,
	open: (*Node).openV1,
}

const v1Submit = "app_sessions.v1.submit_app_state"

var v1Methods = map[string]func(*Node, *conn, *request) (any, error){
	"node.v1.ping":                       v1Ping,
	"node.v1.get_config":                 v1Config,
	"node.v1.get_assets":                 v1Assets,
	"app_sessions.v1.create_app_session": v1Create,
	"app_sessions.v1.get_app_definition": v1GetDefinition,
	"app_sessions.v1.get_app_sessions":   v1GetSessions,
	"user.v1.get_balances":               v1GetBalances,
	"user.v1.get_transactions":           v1GetTransactions,
	v1Submit:                             v1SubmitState,
}

// handleV1 serves one frame as handle does, in nitronode's envelope.
func (n *Node) handleV1(c *conn, raw []byte) bool {
	r, err := decodeV1(raw)
	if err == nil && !n.arrive(c, r) {
		return false
	}
	n.noteV1(r)
	run, known := v1Methods[r.method]
	if err == nil && !known {
		err = refusal("unknown method: " + r.method)
	}
	f := Fault{Kind: noFault}
	var payload any
	if err == nil {
		f = n.strike(r, func(k FaultKind) bool { return !k.early() && k != ExpireAuth && k != WrongSignature })
		payload, err = n.runV1(c, r, run, f)
	}
	if c.life.ctx.Err() != nil {
		n.settled(r, "")
		return false
	}
	n.settled(r, outcomeV1(r, err))
	return c.deliver(sealV1(r, payload, err, millis(n.cfg.Now())), f)
}

// runV1 carries out one call. The fault may stand in for it.
func (n *Node) runV1(c *conn, r *request, run func(*Node, *conn, *request) (any, error), f Fault) (any, error) {
	if f.Kind == Error {
		return nil, refusal(f.Text)
	}
	ended := n.atWork(r)
	payload, err := run(n, c, r)
	ended()
	if f.Kind == ErrorApplied {
		return nil, refusal(f.Text)
	}
	return payload, err
}

// The first element of a frame.
const (
	v1Answer  = 2
	v1Refusal = 4
)

// v1Frame is [type, id, "method", {payload}, ts]. The type of what comes isn't looked at.
type v1Frame struct {
	kind    uint8
	id      uint64
	method  string
	payload map[string]json.RawMessage
	ts      uint64
}

// UnmarshalJSON fills what it can before it fails: an error answers with the id if that was readable.
func (f *v1Frame) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	if len(parts) != 5 {
		return errors.New("not five elements")
	}
	for i, into := range []any{&f.kind, &f.id, &f.method, &f.payload, &f.ts} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	return nil
}

// decodeV1 reads a frame. What can't be read is answered without a method, and with the id only if that could be read.
func decodeV1(raw []byte) (*request, error) {
	var f v1Frame
	if err := json.Unmarshal(raw, &f); err != nil {
		return &request{id: f.id}, refusal("invalid message format")
	}
	r := &request{id: f.id, method: f.method, ts: f.ts}
	var err error
	if r.signed, err = json.Marshal(f.payload); err == nil {
		err = json.Unmarshal(r.signed, &r.params)
	}
	if err != nil {
		return &request{id: f.id}, refusal("invalid message format")
	}
	return r, nil
}

// parseV1 reads the payload into a struct. Numbers keep all their digits, as on the real node.
func (r *request) parseV1(into any) error {
	if json.Unmarshal(r.signed, into) != nil {
		return refusal("failed to parse parameters")
	}
	return nil
}

// sealV1 makes an answer. Nobody signs it.
func sealV1(r *request, payload any, refused error, ts uint64) []byte {
	kind := v1Answer
	if refused != nil {
		kind, payload = v1Refusal, errorParams{refused.Error()}
	}
	frame, err := json.Marshal([]any{kind, r.id, r.method, payload, ts})
	if err != nil {
		panic("clearnodetest: an answer that is no JSON: " + err.Error()) // they are all our own structs
	}
	return frame
}
