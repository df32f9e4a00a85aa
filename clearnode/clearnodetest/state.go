package clearnodetest

import (
	"encoding/json"
	"fmt"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

// savedState is the JSON of State.
type savedState struct {
	Generation string // of node
	server.Snapshot
	Own json.RawMessage // what only the generation has
}

// State is everything that a node keeps when its process ends, as JSON for StartFrom and Restore: sessions, balances,
// transactions, session keys and the records of requests. Connections, logins and faults are not in it.
func (n *Node) State() ([]byte, error) {
	n.state.Lock()
	defer n.state.Unlock()
	own, err := json.Marshal(n.protocol.OwnState())
	if err != nil {
		return nil, fmt.Errorf("clearnodetest: state: %w", err)
	}
	return json.Marshal(savedState{generationOf(n.state.Config.Protocol), n.state.Snapshot(), own})
}

// StartFrom is Start with a state that a node of the same generation had; nil: none.
func StartFrom(cfg Config, state []byte) (*Node, error) {
	n, err := newNode(cfg)
	if err != nil {
		return nil, fmt.Errorf("clearnodetest: %w", err)
	}
	if state != nil {
		if err := n.replaceState(state); err != nil {
			return nil, err
		}
	}
	if err := n.state.Listen(n.protocol); err != nil {
		return nil, fmt.Errorf("clearnodetest: %w", err)
	}
	return n, nil
}

// Restore stops the node, replaces its state, removes its faults, and resumes it; nil: without any state. After an error it
// stays stopped.
func (n *Node) Restore(state []byte) error {
	n.Stop()
	if state == nil {
		state = []byte("{}")
	}
	if err := n.replaceState(state); err != nil {
		return err
	}
	n.Resume()
	return nil
}

func (n *Node) replaceState(state []byte) error {
	var s savedState
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("clearnodetest: state: %w", err)
	}
	if want := generationOf(n.state.Config.Protocol); s.Generation != "" && s.Generation != want {
		return fmt.Errorf("clearnodetest: state: of a node of %s, not of %s", s.Generation, want)
	}
	if s.Own == nil {
		s.Own = json.RawMessage("null")
	}
	n.state.Lock()
	defer n.state.Unlock()
	n.state.Restore(s.Snapshot)
	if err := n.protocol.RestoreOwn(s.Own); err != nil {
		return fmt.Errorf("clearnodetest: state: %w", err)
	}
	return nil
}

// generationOf is the protocol that stands for all protocols of one kind of node.
func generationOf(protocol string) string {
	if protocol == "" || protocol == Nitro02 {
		return Nitro04
	}
	return protocol
}

// EntryRow is a ledger entry: what an account received or spent.
type EntryRow = server.EntryRow

// SessionDetail is all that the node knows about a session.
type SessionDetail struct {
	SessionState
	Definition       Definition
	Created, Updated time.Time
	Signers          [][]string // of each committed close
	Entries          []EntryRow // of the session's account, oldest first
}

// SessionDetail returns all about a session if there is one with this id.
func (n *Node) SessionDetail(id string) (SessionDetail, bool) {
	state, ok := n.Session(id)
	if !ok {
		return SessionDetail{}, false
	}
	n.state.Lock()
	defer n.state.Unlock()
	s := n.state.Sessions.ByID[id]
	if s == nil {
		return SessionDetail{}, false // removed by Restore
	}
	return SessionDetail{state, s.Definition, s.Created, s.Updated, append([][]string(nil), s.Closes...), n.state.Ledger.EntriesIn(id)}, true
}

// SessionIDs are the ids of all sessions, oldest first.
func (n *Node) SessionIDs() []string {
	n.state.Lock()
	defer n.state.Unlock()
	ids := []string{}
	for _, s := range n.state.Sessions.All {
		ids = append(ids, s.ID)
	}
	return ids
}

// Methods are the names of the requests that the node knows, as Fault.Method takes them.
func (n *Node) Methods() []string { return n.protocol.Methods() }

// Finished is how many requests the node has handled. What it answers, and what a fault made it keep to itself, is in State by
// then.
func (n *Node) Finished() uint64 { return n.state.Finished() }
