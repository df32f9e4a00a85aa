package main

import (
	"bytes"
	"slices"
)

// normalize drops what no later step reads, and orders what is interchangeable, so
// that states with the same future are one state.
func (c *config) normalize(s *state) {
	for i := range s.Workers {
		c.normalizeWorker(s, &s.Workers[i])
	}
	c.normalizeBook(&s.Book)
	c.normalizeBook(&s.Backup)
	if c.Rules.Genuine && c.Rules.ExpectLast {
		s.Foreign = 0
	}
	if s.Hold == 0 {
		s.Aware = 0
	}
	if !c.Lag {
		s.LagVer, s.LagAlloc = 0, 0
	}
	c.normalizeRequests(s)
	s.sortWorkers()
	c.renameTokens(s)
}

func (c *config) normalizeWorker(s *state, w *worker) {
	stands := func(tok uint8) bool {
		return tok == s.Book.Standing.Tok || tok == s.Backup.Standing.Tok || tok == s.Pending.Tok
	}
	if c.Rules.OwnRefusal && w.Sent != 0 && !stands(w.Sent) {
		w.Sent, w.Refused, w.Answered, w.Updated = 0, false, false, 0
	}
	if w.Assumed {
		w.Fresh = s.Book.empty() || s.Dropped
	}
	switch {
	case c.Foreign == nil:
		w.Tail = w.Fresh
	case !w.Fresh, !c.Rules.ExpectLast:
		w.Tail = false
	}
	switch w.At {
	case readHead:
		if !w.Refused && !w.Answered && w.Updated == 0 {
			w.Sent = 0
		}
	case observe, decide:
		if w.Refused || w.At == decide && c.Rules.FenceFirst {
			w.Intent.Until = 0
		}
		if w.Refused {
			w.Fence = true
		} else if !w.Answered {
			w.Sent = 0
		}
	case awaitAnswer:
		w.Intent, w.Attempts, w.Tok, w.Base = entry{}, 0, 0, 0
		if w.Kind != operate {
			w.ReqVer = 0
		}
	case appendClosing, resolveClosing, send:
		w.Intent, w.Attempts = entry{}, 0
		if w.At == send {
			w.Tok, w.Base = 0, 0
		}
	}
}

func (c *config) normalizeBook(b *book) {
	if b.Standing.Kind == failed && c.Rules.FailedFrees && c.Rules.Standing {
		b.Standing = entry{}
	}
	if c.Rules.Standing && c.Rules.History {
		if b.Last.Kind == closing {
			b.Last = entry{Kind: closing, Tok: b.Last.Tok}
		} else {
			b.Last = entry{}
		}
	}
	if b.Standing.Kind != closing {
		b.Standing.Until, b.Standing.Base = 0, 0
	}
	if !c.Withdrawn {
		b.Newest = [2]uint8{}
	}
}

func (c *config) normalizeRequests(s *state) {
	for i := range s.Requests {
		r := &s.Requests[i]
		if r.State != inFlight || r.Own != 0 {
			continue
		}
		dead := s.Closed
		if c.Versioned {
			dead = dead || r.Ver <= s.Ver
		} else {
			dead = dead && !s.atWork() || r.Valid == 0
		}
		if dead {
			*r = request{}
		}
	}
	sortRequests(s)
	if !c.Versioned {
		return
	}
	for i := 1; i < maxRequests; i++ { // the version lets one of two equal requests through
		if r := s.Requests[i]; r.State == inFlight && r.Own == 0 && r == s.Requests[i-1] {
			s.Requests[i-1] = request{}
		}
	}
	sortRequests(s)
}

func sortRequests(s *state) {
	slices.SortFunc(s.Requests[:], func(a, b request) int {
		return bytes.Compare([]byte{b.State, b.Kind, b.Plan, b.Ver, b.Valid, b.Left, b.Own}, []byte{a.State, a.Kind, a.Plan, a.Ver, a.Valid, a.Left, a.Own})
	})
}

// sortWorkers orders the workers, which are interchangeable.
func (s *state) sortWorkers() {
	a, b := s.Workers[0].key(), s.Workers[1].key()
	if bytes.Compare(a[:], b[:]) < 0 {
		s.Workers[0], s.Workers[1] = s.Workers[1], s.Workers[0]
		s.Aware = s.Aware&^3 | s.Aware&1<<1 | s.Aware&2>>1
		for k := range s.Requests {
			if r := &s.Requests[k]; r.Own != 0 {
				r.Own = 3 - r.Own
			}
		}
	}
	sortRequests(s)
}

func (w *worker) key() [26]uint8 {
	flags := uint8(0)
	for i, on := range []bool{w.Assumed, w.Fresh, w.Tail, w.Fence, w.Quiet, w.Refused, w.Answered} {
		if on {
			flags = with(flags, uint8(i))
		}
	}
	return [26]uint8{uint8(w.At), w.Msg, flags, uint8(w.Intent.Kind), w.Intent.Plan, w.Intent.Until, w.Intent.Base,
		w.Recorded, w.Newest, w.Attempts, w.Seen, w.Paid, w.Bal, w.Ver, w.Alloc, w.Plan, w.Until, w.Valid,
		w.Kind, w.ReqVer, w.Base, w.Answer, w.Code, w.Tok, w.Sent, w.Intent.Tok}
}

// renameTokens numbers the tokens that are still compared in the order of their
// appearance, and drops the others.
func (c *config) renameTokens(s *state) {
	var used [64]bool
	for i := range s.Workers {
		w := &s.Workers[i]
		used[w.Tok], used[w.Sent] = true, true
	}
	var names [64]uint8
	next := uint8(1)
	rename := func(tok *uint8, keep bool) {
		switch {
		case *tok == 0:
			return
		case !used[*tok] && !keep:
			*tok = 0
			return
		case names[*tok] == 0:
			names[*tok] = next
			next++
		}
		*tok = names[*tok]
	}
	needed := c.Versioned || !c.Rules.IntentPerSend // a worker may send by an intent that it read
	rename(&s.Book.Standing.Tok, needed)
	rename(&s.Book.Last.Tok, false)
	rename(&s.Pending.Tok, needed)
	rename(&s.Backup.Standing.Tok, needed)
	rename(&s.Backup.Last.Tok, false)
	for i := range s.Workers {
		rename(&s.Workers[i].Tok, true)
		rename(&s.Workers[i].Sent, true)
		rename(&s.Workers[i].Intent.Tok, needed)
	}
	if c.Rules.Standing && c.Rules.History {
		for _, b := range []*book{&s.Book, &s.Backup} {
			if b.Last.Tok == 0 {
				b.Last = entry{}
			}
		}
	}
}
