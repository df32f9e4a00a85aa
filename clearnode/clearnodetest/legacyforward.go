package clearnodetest

// forward passes a frame that names a session on to the others of its participants, as it came and unread: whoever is signed
// in may send any of them anything, as long as it is signed by that login's key. Only errors are answered.
func (n *Node) forward(m *legacyMessage, from string) legacyAnswer {
	const failed = "Failed to forward message: "
	signers := map[string]bool{}
	for _, text := range m.texts {
		signer, err := legacySigner(m.data.canonical(), text)
		if err != nil {
			return legacyError(failed + "invalid signature: " + err.Error())
		}
		signers[signer] = true
	}
	if !signers[from] {
		return legacyError(failed + "unauthorized: invalid signature or sender is not a participant of this vApp")
	}
	to, err := n.othersOf(m.sid, from)
	if err != nil {
		return legacyError(failed + "failed to find virtual app session: " + err.Error())
	}
	for _, c := range to {
		c.send(m.raw)
	}
	return legacyAnswer{}
}

// othersOf are the newest connections of a session's participants but one.
func (n *Node) othersOf(id, from string) ([]*conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.legacySession(id)
	if err != nil {
		return nil, err
	}
	var to []*conn
	for _, p := range s.def.Participants {
		if n.life != nil && p != from && n.life.newest[p] != nil {
			to = append(to, n.life.newest[p])
		}
	}
	return to, nil
}
