package legacy

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// sessionsParams are the params of get_app_sessions.
type sessionsParams struct {
	Participant string `json:"participant"`
	Status      string `json:"status"`
}

// askSessions reads the whole list of a participant's sessions of a status. It has no
// pages.
func askSessions(participant, status string, list *nitrorpc.SessionPage, answer *protocol.Answer) protocol.Question {
	return protocol.Question{Method: "get_app_sessions", Params: sessionsParams{participant, status}, Read: func(a protocol.Answer) error {
		*answer, *list = a, nil
		if err := a.Decode("get_app_sessions", list); err != nil {
			return err
		}
		if *list == nil {
			return errors.New("no list in the answer")
		}
		return nil
	}}
}

// askDefinition reads a session's definition. protocol.ErrAbsent: the node has none. Weights
// and quorum are unsigned 64-bit numbers on the wire, and signed ones where the node adds
// them up. The protocol's name is whatever the session's maker wrote, and means nothing.
func askDefinition(id settlement.SessionID, into *nitrorpc.Definition, answer *protocol.Answer) protocol.Question {
	return protocol.Question{Method: "get_app_definition", Params: nitrorpc.DefinitionParams{Session: id}, Read: func(a protocol.Answer) error {
		if text, failed := a.ErrorText(); failed && text == absentText {
			return protocol.ErrAbsent
		}
		d, err := nitrorpc.ReadDefinition[uint64](a)
		if err == nil {
			*into, *answer = d, a
		}
		return err
	}}
}

// ReadDefinition finds a session that the node has.
func (n *Node) ReadDefinition(ctx context.Context, c protocol.Conn, id settlement.SessionID) error {
	return c.AskAll(ctx, askDefinition(id, new(nitrorpc.Definition), new(protocol.Answer)))
}

// askAssets reads what the node lists, which is nothing where it knows no chain. It is not
// cached, because assets may be listed later, and an allocation must not miss that.
func askAssets(into *map[settlement.Asset]int32) protocol.Question {
	return protocol.Question{Method: "get_assets", Read: func(a protocol.Answer) error {
		var rows []nitrorpc.AssetRow
		if err := a.Decode("get_assets", &rows); err != nil {
			return err
		}
		if rows == nil {
			return errors.New("no list in the answer")
		}
		decimals, err := nitrorpc.FewestDecimals(rows)
		*into = decimals
		return err
	}}
}

// ReadAssets lists the assets of the node.
func (n *Node) ReadAssets(ctx context.Context, c protocol.Conn) ([]settlement.Asset, error) {
	var listed map[settlement.Asset]int32
	if err := c.AskAll(ctx, askAssets(&listed)); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(listed)), nil
}

// ClosedSessions is not supported: the lists have no pages.
func (n *Node) ClosedSessions(string, int, *[]protocol.ClosedSession) (protocol.Question, bool) {
	return protocol.Question{}, false
}

// shortestList is the participant whose lists of sessions were, or may be, the shortest.
// Until the session was found in them they count as the longest: the connection may not
// survive them.
func (n *Node) shortestList(participants []string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	best := participants[0]
	for _, p := range participants[1:] {
		if n.lengths[p] < n.lengths[best] {
			best = p
		}
	}
	n.rememberLength(best, math.MaxInt)
	return best
}

// rememberLength: the lock is held. The lengths are a hint, and forgotten when there are
// too many.
func (n *Node) rememberLength(participant string, length int) {
	if len(n.lengths) >= 4096 {
		clear(n.lengths)
	}
	n.lengths[participant] = length
}
