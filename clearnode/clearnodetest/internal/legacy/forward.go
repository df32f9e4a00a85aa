package legacy

import (
	"slices"

	"settled/clearnode/clearnodetest/internal/server"
)

// forward sends a frame that names a session to the session's other participants, unchanged and unchecked: a logged-in address
// may send them anything that it signed. Only errors are answered.
func (n *Node) forward(m *message, from string) answer {
	const failed = "Failed to forward message: "
	var signers []string
	for _, sig := range m.sigs {
		signer, err := recoverSigner(m.data.canonical(), sig)
		if err != nil {
			return errorAnswer(failed+"invalid signature: "+err.Error(), false, false)
		}
		signers = append(signers, signer)
	}
	if !slices.Contains(signers, from) {
		return errorAnswer(failed+"unauthorized: invalid signature or sender is not a participant of this vApp", false, false)
	}
	receivers, err := n.otherParticipants(m.sid, from)
	if err != nil {
		return errorAnswer(failed+"failed to find virtual app session: "+err.Error(), false, false)
	}
	for _, c := range receivers {
		c.Send(m.raw)
	}
	return answer{}
}

// otherParticipants are the newest connections of a session's participants except one.
func (n *Node) otherParticipants(id, except string) ([]*server.Conn, error) {
	n.Lock()
	defer n.Unlock()
	s, err := n.findSession(id)
	if err != nil {
		return nil, err
	}
	var conns []*server.Conn
	for _, p := range s.Definition.Participants {
		if n.Lifetime != nil && p != except && n.Lifetime.Newest[p] != nil {
			conns = append(conns, n.Lifetime.Newest[p])
		}
	}
	return conns, nil
}
