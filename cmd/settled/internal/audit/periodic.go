package audit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

const (
	// maxQueued bounds the closed entries that are kept in memory until they are compared
	// with the node; more are read from the ledger again.
	maxQueued = 10_000
	// compareBatch is how many entries are compared before the checkpoint can advance.
	compareBatch = 100
)

// PeriodicRun is one run of the reconciliation of `settled serve`: Continue, CompareAgain,
// and CompareNext until nothing is left. Next may be stored after each of them but the first.
type PeriodicRun struct {
	Reconciled
	Next *Checkpoint

	r         *Reconciliation
	state     *ledgerState
	scan      *outcomesScan
	carried   []settlement.SessionID                    // that disagreed before this run
	suspects  []settlement.SessionID                    // listed as closed at the node, and read in the ledger for that reason
	again     map[settlement.SessionID]settlement.Entry // compared again
	queue     []settlement.Entry                        // closed entries after Next.Node, in order
	truncated bool                                      // the ledger has more of them
}

// Continue reads what is new in the streams since a checkpoint that was verified, and what
// it names; without one, everything. At the node it lists the sessions closed since.
func (r *Reconciliation) Continue(ctx context.Context, after *Checkpoint) (*PeriodicRun, error) {
	p := &PeriodicRun{r: r}
	next, known := &Checkpoint{Version: checkpointVersion, RunAt: r.Now}, after != nil && after.Ledger.Digest != ""
	if after != nil {
		p.carried = after.Disagreed
		next.Node, next.Finished, next.NotCarried, next.Behind = after.Node, after.Finished, after.NotCarried, after.Behind
		p.truncated = known && after.Node < after.Ledger.Sequence
	}
	reached, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	p.state, p.scan, err = r.readStreams(ctx, reached, after, func(e settlement.Entry) error {
		switch {
		case e.Sequence <= next.Node || !known && e.Time.Before(r.ClosedSince) || p.truncated:
		case len(p.queue) == maxQueued:
			p.truncated = true
		default:
			p.queue = append(p.queue, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.Reconciled = r.result(p.state, p.scan)
	if after != nil {
		if err := p.excludeKnown(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.addUnrequested(ctx, &p.Reconciled); err != nil {
		return nil, err
	}
	next.Ledger, next.Outcomes, next.Named = p.state.end, p.scan.end, p.state.named
	if !known && len(p.queue) > 0 {
		next.Node = p.queue[0].Sequence - 1
	}
	p.Next = next
	p.advance()
	return p, p.keepOpen(ctx)
}

// excludeKnown looks in the ledger for the listed sessions that this run has not read.
func (p *PeriodicRun) excludeKnown(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(p.r.Unrequested.closed)) {
		_, found, err := p.state.readSession(ctx, p.r.JS, p.r.Prefix, id)
		if err != nil {
			return err
		}
		if found {
			p.r.Unrequested.exclude(id)
			p.suspects = append(p.suspects, id)
		}
	}
	return nil
}

// keepOpen adds to the checkpoint what is open, or where to read again for it.
func (p *PeriodicRun) keepOpen(ctx context.Context) error {
	var intents, free []uint64
	for _, i := range p.state.closing {
		intents = append(intents, i.entry)
	}
	for _, f := range p.state.newestFree() {
		free = append(free, f.Sequence)
	}
	oldest := time.Time{}
	for _, u := range p.scan.open {
		p.Next.Pending = append(p.Next.Pending, u.sequence)
		if oldest.IsZero() || u.stored.Before(oldest) {
			oldest = u.stored
		}
	}
	from := readFrom{p.Next.Ledger.Sequence + 1, p.Next.Outcomes.Sequence + 1}
	if len(p.Next.Pending) > maxOpen {
		from.Outcomes, p.Next.Pending = slices.Min(p.Next.Pending), nil
		// The results of outcomes that are read again are read again with them: none is older.
		since := streamreader.Selection{Since: oldest.Add(-MinAge)} // the clocks of two streams' servers differ
		if _, err := LedgerReader(p.r.JS, p.r.Prefix).List(ctx, since, func(m *jetstream.RawStreamMsg) error {
			from.Ledger = min(from.Ledger, m.Sequence)
			return streamreader.ErrEnough
		}); err != nil {
			return err
		}
		p.Next.ReadFrom = &from
	}
	if len(intents) > maxOpen {
		from.Ledger, intents = min(from.Ledger, slices.Min(intents)), nil
		p.Next.ReadFrom = &from
	}
	p.Next.Entries = slices.Sorted(slices.Values(append(intents, free...)))
	return nil
}

// CompareAgain compares with the node what disagreed before, and the free sessions.
func (p *PeriodicRun) CompareAgain(ctx context.Context) error {
	p.again = map[settlement.SessionID]settlement.Entry{}
	for _, e := range p.state.newestFree() {
		p.again[e.Session] = e
	}
	for _, id := range append(p.suspects, p.carried...) {
		closed, _, err := p.state.readSession(ctx, p.r.JS, p.r.Prefix, id)
		if err != nil {
			return err
		}
		if f, free := p.state.free[id]; free {
			p.again[id] = f.lastEntry(id)
		} else if closed != nil && slices.Contains(p.carried, id) {
			p.again[id] = *closed
		}
	}
	if err := p.compare(ctx, slices.Collect(maps.Values(p.again))); err != nil {
		return err
	}
	p.keepFindings()
	return nil
}

// Left returns about how many entries are still to be compared.
func (p *PeriodicRun) Left() uint64 {
	if p.truncated {
		return p.Next.Ledger.Sequence - p.Next.Node
	}
	return uint64(len(p.queue))
}

// CompareNext compares the next closed entries with the node, and advances the checkpoint.
func (p *PeriodicRun) CompareNext(ctx context.Context) error {
	if len(p.queue) == 0 && p.truncated {
		if err := p.refill(ctx); err != nil {
			return err
		}
	}
	n := min(compareBatch, len(p.queue))
	batch := slices.DeleteFunc(slices.Clone(p.queue[:n]), func(e settlement.Entry) bool {
		_, done := p.again[e.Session]
		return done
	})
	if err := p.compare(ctx, batch); err != nil {
		return err
	}
	if n > 0 {
		p.Next.Node = p.queue[n-1].Sequence
	}
	p.queue = p.queue[n:]
	p.advance()
	p.keepFindings()
	return nil
}

// advance moves the position at the node to the end if nothing is left.
func (p *PeriodicRun) advance() {
	if len(p.queue) == 0 && !p.truncated {
		p.Next.Node = p.Next.Ledger.Sequence
	}
}

// refill reads closed entries from the ledger again.
func (p *PeriodicRun) refill(ctx context.Context) error {
	p.truncated = false
	from := streamreader.Selection{Subjects: []string{ledger.Subject(p.r.Prefix, "*", "*")}, From: p.Next.Node + 1}
	_, err := ledger.List(ctx, LedgerReader(p.r.JS, p.r.Prefix), from, false, func(s ledger.Stored) error {
		switch {
		case s.Sequence > p.Next.Ledger.Sequence:
			return streamreader.ErrEnough
		case s.Err != nil || s.Entry.State != settlement.EntryClosed:
			return nil
		case len(p.queue) == maxQueued:
			p.truncated = true
			return streamreader.ErrEnough
		}
		p.queue = append(p.queue, s.Entry)
		return nil
	})
	return err
}

func (p *PeriodicRun) compare(ctx context.Context, entries []settlement.Entry) error {
	compared := StartComparison(ctx, p.r.Nodes, nil)
	var err error
	for _, e := range entries {
		if err = compared.Add(e); err != nil {
			break
		}
	}
	if err := cmp.Or(compared.End(), err); err != nil {
		return err
	}
	return p.r.addNodeFindings(ctx, compared, p.scan.republished, &p.Reconciled)
}

// keepFindings adds to the checkpoint what was found, so that the next run looks at it again.
func (p *PeriodicRun) keepFindings() {
	n := p.Next
	n.Disagreed, n.Unreadable, n.Gaps, n.Counts = nil, nil, map[uint64]uint64{}, map[string]int{}
	n.ListSince, n.Unrequested = p.r.Unrequested.resume(p.r.Now), map[settlement.SessionID]time.Time{}
	differs := map[settlement.SessionID]bool{}
	for _, f := range p.Findings {
		n.Counts[f.Kind]++
		switch f.Kind {
		case LedgerUnreadable:
			n.Unreadable = append(n.Unreadable, f.Sequence)
		case ClosedUnknown, PayoutDiffers, OverpaidAt, OpenAtNode, NotAtNode, notRead:
			differs[f.Session] = true
		}
	}
	for _, id := range p.carried { // in the order in which they were found
		if differs[id] {
			n.Disagreed = append(n.Disagreed, id)
			delete(differs, id)
		}
	}
	n.Disagreed = append(n.Disagreed, slices.Sorted(maps.Keys(differs))...)
	left := firstFound(&n.Disagreed) + firstFound(&n.Unreadable)
	gaps := slices.Sorted(maps.Keys(p.scan.gaps))
	left += firstFound(&gaps)
	for _, from := range gaps {
		n.Gaps[from] = p.scan.gaps[from]
	}
	closed := slices.SortedFunc(maps.Keys(p.r.Unrequested.reported), func(a, b settlement.SessionID) int {
		return cmp.Or(p.r.Unrequested.reported[a].Compare(p.r.Unrequested.reported[b]), cmp.Compare(a, b))
	})
	left += firstFound(&closed)
	for _, id := range closed {
		n.Unrequested[id] = p.r.Unrequested.reported[id]
	}
	n.NotCarried = max(n.NotCarried, left)
	if len(n.Disagreed)+len(n.Unreadable)+len(n.Gaps)+len(n.Unrequested) == 0 {
		n.NotCarried = 0
	}
}

// firstFound shortens a list to its bound, and returns how many were left out.
func firstFound[T any](all *[]T) uint64 {
	n := min(len(*all), maxCarried)
	left := len(*all) - n
	*all = (*all)[:n]
	return uint64(left) // #nosec G115 -- not negative
}
