package clearnodetest

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// v1Page is how a list is cut: ten rows if nothing is said, a hundred at most, newest first whatever is asked for.
type v1Page struct {
	Offset *uint32 `json:"offset"`
	Limit  *uint32 `json:"limit"`
	Sort   *string `json:"sort"`
}

type v1Metadata struct {
	Page       uint32 `json:"page"`
	PerPage    uint32 `json:"per_page"`
	TotalCount uint32 `json:"total_count"`
	PageCount  uint32 `json:"page_count"`
}

// cutV1 takes a page's part of rows that are the oldest first.
func cutV1[T any](p *v1Page, rows []T, at func(T) time.Time) ([]T, v1Metadata) {
	var from, limit uint32 = 0, 10
	if p != nil && p.Offset != nil {
		from = min(*p.Offset, math.MaxInt32)
	}
	if p != nil && p.Limit != nil && *p.Limit > 0 {
		limit = min(*p.Limit, 100)
	}
	slices.Reverse(rows)
	slices.SortStableFunc(rows, func(a, b T) int { return at(b).Compare(at(a)) })
	count := uint32(len(rows))
	meta := v1Metadata{Page: from/limit + 1, PerPage: limit, TotalCount: count, PageCount: (count + limit - 1) / limit}
	from = min(from, count)
	return rows[from:min(from+limit, count)], meta
}

func v1GetDefinition(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		ID string `json:"app_session_id"`
	}
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || unstorable(p.ID) {
		return nil, refusal("failed to retrieve app definition")
	}
	var told struct {
		Definition *v1Definition `json:"definition,omitempty"`
	}
	if s := n.sessions.byID[strings.ToLower(p.ID)]; s != nil {
		told.Definition = s.def.onWire(true)
	}
	return told, nil
}

// v1Session is a session in a list.
type v1Session struct {
	ID          string         `json:"app_session_id"`
	Status      string         `json:"status"`
	Definition  *v1Definition  `json:"app_definition"`
	Data        string         `json:"session_data,omitempty"`
	Version     string         `json:"version"`
	Allocations []v1Allocation `json:"allocations"`
}

// v1Wanted is which sessions a list is of.
type v1Wanted struct {
	ID          *string `json:"app_session_id"`
	Participant *string `json:"participant"`
	Status      *string `json:"status"`
	Pagination  *v1Page `json:"pagination"`
}

var sessionHash = regexp.MustCompile(`^0x[0-9a-fA-F]{64}$`)

func v1GetSessions(n *Node, c *conn, r *request) (any, error) {
	var p v1Wanted
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	told, err := n.listV1(p)
	if err != nil {
		return nil, err
	}
	if !n.stallRead(c, r) {
		return nil, errStopped
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range told.Sessions {
		told.Sessions[i].Allocations = n.allocationsV1(told.Sessions[i].ID)
	}
	return told, nil
}

// v1List is a list of sessions. The node reads what they hold after it read them, and nothing holds them meanwhile: a session
// that another connection closes in between may be told as open, with nothing left in it.
type v1List struct {
	Sessions []v1Session `json:"app_sessions"`
	Metadata v1Metadata  `json:"metadata"`
}

func (n *Node) listV1(p v1Wanted) (v1List, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return v1List{}, refusal("failed to retrieve app sessions")
	}
	if p.Status != nil && *p.Status != "open" && *p.Status != "closed" {
		return v1List{}, refusal("invalid status: " + *p.Status)
	}
	var found []*session
	for _, s := range n.candidatesV1(p) {
		if p.matches(s) {
			found = append(found, s)
		}
	}
	found, meta := cutV1(p.Pagination, found, func(s *session) time.Time { return s.created })
	told := v1List{[]v1Session{}, meta}
	for _, s := range found {
		// As recorded: one session's participants come by address, several sessions' as they were defined.
		told.Sessions = append(told.Sessions, s.rowV1(len(found) == 1))
	}
	return told, nil
}

// candidatesV1 are the sessions that the filters may mean.
func (n *Node) candidatesV1(p v1Wanted) []*session {
	switch {
	case p.ID == nil:
		return n.sessions.among(*p.Participant, "")
	case n.sessions.byID[strings.ToLower(*p.ID)] != nil:
		return []*session{n.sessions.byID[strings.ToLower(*p.ID)]}
	}
	return nil
}

// check reads the filters, of which there must be one. The participant is in EIP-55 from here on.
func (w *v1Wanted) check() error {
	switch {
	case w.ID == nil && w.Participant == nil:
		return refusal("either app_session_id or participant must be provided")
	case w.ID != nil && !sessionHash.MatchString(*w.ID):
		return refusal("invalid app_session_id")
	case w.Participant == nil:
		return nil
	}
	wallet, err := walletV1(*w.Participant)
	if err != nil {
		return refusal("invalid participant: " + err.Error())
	}
	w.Participant = &wallet
	return nil
}

func (w *v1Wanted) matches(s *session) bool {
	return (w.ID == nil || strings.ToLower(*w.ID) == s.id) &&
		(w.Participant == nil || contains(s.def.Participants, *w.Participant)) &&
		(w.Status == nil || *w.Status == s.status)
}

func (s *session) rowV1(byAddress bool) v1Session {
	return v1Session{ID: s.id, Status: s.status, Definition: s.def.onWire(byAddress), Data: s.data, Version: number(s.version)}
}

// allocationsV1 are what a session holds, by asset, then participant.
func (n *Node) allocationsV1(id string) []v1Allocation {
	all := []v1Allocation{}
	for _, a := range n.heldV1(n.sessions.byID[id]).rows() {
		all = append(all, v1Allocation{a.Participant, a.Asset, a.Amount.String()})
	}
	slices.SortStableFunc(all, func(a, b v1Allocation) int { return strings.Compare(a.Asset, b.Asset) })
	return all
}
