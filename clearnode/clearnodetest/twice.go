package clearnodetest

import "fmt"

// CloseTwice closes a session as two closes do that meet, with the signatures of all participants and without a connection: both
// pass their checks before either is carried out, and both pay. Node.Check finds that, as it should. NitroRPC 0.2 and 0.4 only.
func (n *Node) CloseTwice(id string, allocations []Allocation) error {
	l := n.alive()
	s, found := n.Session(id)
	if l == nil || !found || n.cfg.Protocol == Legacy || n.cfg.Protocol == NitronodeV1 {
		return fmt.Errorf("clearnodetest: close twice: no such session at a running node of NitroRPC: %s", id)
	}
	p := closing{ID: s.ID, Allocations: allocations}
	n.mu.Lock()
	signers := n.sessions.byID[id].def.Participants
	n.mu.Unlock()
	var verdicts []verdict
	for range 2 {
		v, err := n.checkClose(p, signers)
		if err != nil {
			return fmt.Errorf("clearnodetest: close twice: %w", err)
		}
		verdicts = append(verdicts, v)
	}
	for _, v := range verdicts {
		if err := n.commitClose(&conn{node: n, life: l}, &request{method: "close_app_session"}, p, v); err != nil {
			return fmt.Errorf("clearnodetest: close twice: %w", err)
		}
	}
	return nil
}
