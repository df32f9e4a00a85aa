package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"settled/ledger"
	"settled/settlement"
)

// The kinds of disagreement between a closed entry and the node. The names are for
// programs, and stay.
const (
	PayoutDiffers = "payout_differs" // an account got another amount than the ledger says
	OverpaidAt    = "overpaid"       // the node paid out more than was deposited
	OpenAtNode    = "open_at_node"   // the ledger says closed, and the node shows the session open
	NotAtNode     = "not_at_node"    // the node has no such session
	notRead       = "not_read"       // the session could not be read, so nothing is known
)

// divergence is one difference between node and ledger.
type divergence struct{ kind, text string }

// compareClosed compares a closed entry with the session at the node. comparable is false
// if the node doesn't show what was paid, so that only the state was compared.
func compareClosed(s settlement.Session, e settlement.Entry) (found []divergence, comparable bool) {
	if asset, in, out, over := s.Overpaid(); over {
		found = append(found, divergence{OverpaidAt, fmt.Sprintf("the node paid out %s of %s, and only %s were deposited", out, asset, in)})
	}
	rows, comparable := s.PaidOtherwise(e)
	// ClearNode 0.5.2 may show a session open again that was closed and paid, where
	// someone's submit_app_state met the close.
	if s.Open && !(comparable && len(rows) == 0 && s.Unfunded()) {
		found = append(found, divergence{OpenAtNode, "the ledger says closed, and the node shows it open" + describeBalance(s)})
		if s.Versioned {
			return found, true // an open one shows no payouts
		}
	}
	for _, r := range rows {
		found = append(found, divergence{PayoutDiffers, fmt.Sprintf("the node paid %s %s %s, and the ledger says %s", r.Wallet, r.Paid, r.Asset, r.Recorded)})
	}
	return found, comparable
}

func describeBalance(s settlement.Session) string {
	text := ""
	for _, t := range s.Balance() {
		if !t.Amount.IsZero() {
			text += fmt.Sprintf(" %s %s", t.Amount, t.Asset)
		}
	}
	if text == "" {
		return ""
	}
	return ", with" + text + " in it"
}

// compareFree reports a session that is closed at the node and free by the ledger.
func compareFree(s settlement.Session) []divergence {
	if s.Open {
		return nil
	}
	return []divergence{{ClosedUnknown, "the node shows it closed, and by the ledger it is free: somebody else closed it, or a close of ours was never recorded"}}
}

// Comparison reads sessions at the node, several at once, while the ledger is read: closed
// ones, and free ones by their last failed entry.
type Comparison struct {
	reader       *NodeReader
	progressFunc func(settlement.Entry, uint64) // called after each read with the number of reads
	jobs         chan settlement.Entry
	work         sync.WaitGroup

	mu          sync.Mutex
	Read        uint64 // sessions that were compared
	Undisclosed uint64 // of these, those without payouts shown by the node
	Findings    []nodeFinding
	err         error // ended the comparison
}

// nodeFinding is a divergence with its entry.
type nodeFinding struct {
	ledger.Finding
	Kind    string
	outcome uint64 // sequence in OUTCOMES
}

// compareWorkers is how many sessions are read at once.
const compareWorkers = 8

// StartComparison starts the workers; without a reader it ignores entries.
func StartComparison(ctx context.Context, r *NodeReader, told func(settlement.Entry, uint64)) *Comparison {
	c := &Comparison{reader: r, progressFunc: told, jobs: make(chan settlement.Entry)}
	if r == nil {
		return c
	}
	for range compareWorkers {
		c.work.Go(func() {
			for e := range c.jobs {
				c.compare(ctx, e)
			}
		})
	}
	return c
}

// Add enqueues an entry. Its error ends the comparison.
func (c *Comparison) Add(e settlement.Entry) error {
	if c.reader == nil {
		return nil
	}
	c.mu.Lock()
	broken := c.err
	c.mu.Unlock()
	if broken == nil {
		c.jobs <- e
	}
	return broken
}

// End waits until all entries are compared.
func (c *Comparison) End() error {
	close(c.jobs)
	c.work.Wait()
	return c.err
}

func (c *Comparison) compare(ctx context.Context, e settlement.Entry) {
	s, err := c.reader.Session(ctx, e.Session, settlement.ReadOptions{})
	found, comparable := divergenceOfError(err), false
	switch {
	case e.State == settlement.EntryFailed && errors.Is(err, settlement.ErrSessionNotFound):
		found = nil // which may be why it failed
	case err != nil:
	case e.State == settlement.EntryFailed:
		found, comparable = compareFree(s), true
	default:
		found, comparable = compareClosed(s, e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, errNodeUnreachable) || ctx.Err() != nil {
		c.err = errors.Join(c.err, context.Cause(ctx))
		if c.err == nil {
			c.err = err
		}
		return
	}
	if err == nil {
		c.Read++
		if !comparable {
			c.Undisclosed++
		}
	}
	for _, d := range found {
		c.Findings = append(c.Findings, nodeFinding{ledger.Finding{Session: e.Session, Sequence: e.Sequence, Text: d.text}, d.kind, e.Outcome.Sequence})
	}
	if c.progressFunc != nil {
		c.progressFunc(e, c.Read)
	}
}

// divergenceOfError returns the finding of an error of a read.
func divergenceOfError(err error) []divergence {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, settlement.ErrSessionNotFound):
		return []divergence{{NotAtNode, "the node has no such session: check that clearnode.url is the node that closed it"}}
	default:
		return []divergence{{notRead, fmt.Sprintf("not compared with the node: %s", err)}}
	}
}
