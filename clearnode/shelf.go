package clearnode

import (
	"sync"

	"settled/settlement"
)

// maxShelved bounds how many definitions are kept.
const maxShelved = 4096

// shelf keeps what doesn't change: definitions of sessions, and the decimals of
// assets. A session's state is never kept.
type shelf struct {
	mu       sync.Mutex
	young    map[settlement.SessionID]definition
	old      map[settlement.SessionID]definition
	decimals map[settlement.Asset]int32 // nil until read; replaced as a whole, never changed
}

func (s *shelf) definition(id settlement.SessionID) (definition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, found := s.young[id]; found {
		return d, true
	}
	d, found := s.old[id]
	if found {
		s.shelve(id, d)
	}
	return d, found
}

func (s *shelf) keep(id settlement.SessionID, d definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shelve(id, d)
}

// shelve forgets the half that was not asked for longest when the other is full.
func (s *shelf) shelve(id settlement.SessionID, d definition) {
	if s.young == nil || len(s.young) >= maxShelved/2 {
		s.old, s.young = s.young, map[settlement.SessionID]definition{}
	}
	s.young[id] = d
}

func (s *shelf) assets() map[settlement.Asset]int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decimals
}

func (s *shelf) keepAssets(decimals map[settlement.Asset]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decimals = decimals
}
