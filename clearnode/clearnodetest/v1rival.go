package clearnodetest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strconv"
)

// Submit sends a state update, signed by the keys, without a connection: a rival of whoever else acts on the session. It meets
// the same checks, the same Config.Work and the same Stall as if it came over a websocket, and is counted like that; other
// faults don't strike it. The error is the node's text. NitronodeV1 only.
func (n *Node) Submit(u StateUpdate, keys ...*ecdsa.PrivateKey) error {
	l := n.alive()
	if l == nil || n.cfg.Protocol != NitronodeV1 {
		return fmt.Errorf("clearnodetest: submit: no %s is running", NitronodeV1)
	}
	p := v1Submission{Sigs: []string{}, Update: v1Update{
		Session: u.Session, Intent: u.Intent, Version: strconv.FormatUint(u.Version, 10), Data: u.Data,
	}}
	for _, a := range u.Allocations {
		p.Update.Allocations = append(p.Update.Allocations, v1Allocation{a.Participant, a.Asset, a.Amount.String()})
	}
	for _, k := range keys {
		p.Sigs = append(p.Sigs, u.Sign(k))
	}
	r := &request{method: v1Submit, ts: millis(n.cfg.Now())}
	var err error
	if r.signed, err = json.Marshal(p); err == nil {
		err = json.Unmarshal(r.signed, &r.params)
	}
	if err != nil {
		return fmt.Errorf("clearnodetest: submit: %w", err)
	}
	n.noteV1(r)
	ended := n.atWork(r)
	_, err = v1SubmitState(n, &conn{node: n, life: l}, r)
	ended()
	n.settled(r, outcomeV1(r, err))
	return err
}
