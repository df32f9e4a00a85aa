package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// ClosedWithoutOutcome is the kind of a session of our accounts that is closed at the node,
// though neither an entry of the ledger nor an outcome names it.
const ClosedWithoutOutcome = "closed_without_outcome"

// The bounds of a search for such sessions: pages of closed sessions for each account, and
// reads of single sessions, which show how and when they were closed.
const (
	MaxPages         = 2000 // by hand
	MaxPagesPeriodic = 100  // every hour
	maxSessionReads  = 500
	maxNamed         = 100_000 // sessions that are remembered as named
)

// UnrequestedSearch finds sessions that were closed without an outcome. It keeps its
// findings from one run to the next, and to that of another replica by the checkpoint: a
// closed session stays closed.
type UnrequestedSearch struct {
	accounts    []settlement.Address
	Unavailable string // why the node can't be searched; empty: it can
	Pages       int    // read at most of each account

	nodes      *NodeReader
	Since      time.Time // sessions closed before are ignored
	Incomplete bool      // something could not be read: the next run begins at the same time

	listed    uint64
	unread    []string                               // what this run left out, and why
	closed    map[settlement.SessionID]time.Time     // listed, and not named so far; zero: the list has no time
	named     map[settlement.SessionID]bool          // listed, and named by ledger or outcomes
	inspected map[settlement.SessionID]observedClose // read at the node
	reported  map[settlement.SessionID]time.Time     // findings of the last run
}

// observedClose is a close as the node shows it.
type observedClose struct {
	at   time.Time // zero: unknown, since nobody was paid
	text string
}

// NewUnrequestedSearch searches the sessions of these accounts, or if there are none, of
// the configured keys.
func NewUnrequestedSearch(c *config.Config, accounts []settlement.Address, pages int) *UnrequestedSearch {
	u := &UnrequestedSearch{accounts: accounts, Pages: pages, named: map[settlement.SessionID]bool{}, inspected: map[settlement.SessionID]observedClose{}}
	if len(accounts) > 0 {
		return u
	}
	if len(c.NodeKeyFiles) == 0 {
		u.Unavailable = "clearnode.key_files is not set: name our accounts by --account"
	}
	signers, err := c.Signers()
	if err != nil {
		u.Unavailable = fmt.Sprintf("%s: name our accounts by --account", err)
	}
	for _, signer := range signers {
		u.accounts = append(u.accounts, signer.Address())
	}
	return u
}

// ParseAddresses parses the values of a flag, and leaves out repeated ones.
func ParseAddresses(flag string, texts []string) (all []settlement.Address, err error) {
	for _, text := range texts {
		a, err := settlement.ParseAddress(text)
		if err != nil {
			return nil, terminal.UsageError(fmt.Errorf("%s: %w", flag, err))
		}
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// LedgerBegan returns when the ledger's first entry was stored; of an empty ledger, when it
// was created.
func LedgerBegan(ctx context.Context, js jetstream.JetStream, prefix string) (time.Time, error) {
	info, err := LedgerReader(js, prefix).Info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if info.State.Msgs == 0 {
		return info.Created, nil
	}
	return info.State.FirstTime, nil
}

// Begin prepares a run that searches what was closed since.
func (u *UnrequestedSearch) Begin(nodes *NodeReader, since time.Time) {
	if !u.Incomplete {
		u.Since = since.Truncate(time.Second) // the node's precision
	}
	u.nodes, u.Incomplete, u.listed, u.unread, u.closed = nodes, false, 0, nil, map[settlement.SessionID]time.Time{}
	maps.Copy(u.closed, u.reported)
	if len(u.named) > maxNamed {
		clear(u.named)
	}
}

// Continue prepares a run that searches what was closed since, and looks again at what
// another run reported.
func (u *UnrequestedSearch) Continue(nodes *NodeReader, since time.Time, reported map[settlement.SessionID]time.Time) {
	u.Incomplete, u.reported = false, reported
	u.Begin(nodes, since)
}

// resume returns since when the run after the present one, which began at a time, searches.
func (u *UnrequestedSearch) resume(began time.Time) time.Time {
	if u.Incomplete {
		return u.Since
	}
	return began.Add(-MinAge) // the node's clock may be behind
}

// list reads the node's lists.
func (u *UnrequestedSearch) list(ctx context.Context, bar *terminal.Progress) error {
	if u.Unavailable != "" {
		return nil
	}
	for _, of := range u.accounts {
		err := u.listOf(ctx, of, bar)
		switch {
		case errors.Is(err, clearnode.ErrUnlisted):
			u.noteSkipped("%s", err)
			return nil
		case errors.Is(err, errNodeUnreachable) || ctx.Err() != nil:
			return fmt.Errorf("%w (--no-node leaves it out)", err)
		case err != nil:
			u.Incomplete = true
			u.noteSkipped("%s", err)
		}
	}
	return nil
}

func (u *UnrequestedSearch) listOf(ctx context.Context, of settlement.Address, bar *terminal.Progress) error {
	list := u.nodes.Lists.ClosedSessions(of, u.Since)
	seen := map[settlement.SessionID]bool{}
	defer func() { u.listed += uint64(len(seen)) }()
	for range u.Pages {
		var rows []clearnode.ClosedSession
		var more bool
		if err := u.nodes.retry(ctx, func(ctx context.Context) (err error) {
			rows, more, err = list.Next(ctx)
			return err
		}); err != nil {
			return err
		}
		for _, row := range rows {
			if seen[row.ID] = true; !u.named[row.ID] {
				u.closed[row.ID] = row.At
			}
		}
		if !more {
			return nil
		}
		bar.Update(uint64(len(seen)), 0, fmt.Sprintf("closed sessions of %s at the node", of))
	}
	u.noteSkipped("%s has more closed sessions than the %d that were read: narrow it with --since", of, len(seen))
	return nil
}

// noteSkipped records what was not searched.
func (u *UnrequestedSearch) noteSkipped(format string, args ...any) {
	u.unread = append(u.unread, fmt.Sprintf(format, args...))
}

// Skipped returns what was not searched, and why.
func (u *UnrequestedSearch) Skipped() string {
	if u.Unavailable != "" {
		return u.Unavailable
	}
	return strings.Join(u.unread, "; ")
}

// exclude removes a session that ledger or outcomes name.
func (u *UnrequestedSearch) exclude(id settlement.SessionID) {
	if _, listed := u.closed[id]; listed {
		delete(u.closed, id)
		u.named[id] = true
	}
}

// findings returns the sessions that neither ledger nor outcomes name. An error says that
// the node can't be reached.
func (u *UnrequestedSearch) findings(ctx context.Context) (found []Discrepancy, err error) {
	before, unread := u.reported, 0
	u.reported = map[settlement.SessionID]time.Time{}
	budget := maxSessionReads
	for _, id := range slices.Sorted(maps.Keys(u.closed)) {
		seen, err := u.inspect(ctx, id, &budget)
		switch {
		case errors.Is(err, errNodeUnreachable) || ctx.Err() != nil:
			return nil, fmt.Errorf("%w (--no-node leaves it out)", err)
		case err != nil && u.closed[id].IsZero():
			u.Incomplete = true
			found = append(found, Discrepancy{Kind: notRead, Session: id, Problem: fmt.Sprintf("the node lists it as closed, and no entry or outcome names it; it could not be read: %s", err)})
			continue
		}
		if at := u.closed[id]; !at.IsZero() {
			seen.at = at
		} else if seen.text == "" {
			unread++
		}
		if _, again := before[id]; again || !seen.at.IsZero() && !seen.at.Before(u.Since) {
			u.reported[id] = seen.at
			found = append(found, Discrepancy{Kind: ClosedWithoutOutcome, Session: id, Problem: seen.problem()})
		}
	}
	if unread > 0 {
		u.Incomplete = true
		u.noteSkipped("%d more sessions have no close time in the list and were not read (limit %d): run it again", unread, maxSessionReads)
	}
	return found, nil
}

// inspect reads a session once, while the budget lasts.
func (u *UnrequestedSearch) inspect(ctx context.Context, id settlement.SessionID, budget *int) (observedClose, error) {
	seen, is := u.inspected[id]
	if is || *budget == 0 {
		return seen, nil
	}
	*budget--
	s, err := u.nodes.Session(ctx, id, settlement.ReadOptions{})
	if err != nil {
		return seen, err
	}
	seen.text = "it " + describePayouts(s)
	if u.needsOurSignature(s) {
		seen.text += "; nobody reaches its quorum without our signature: check who else has that key"
	} else {
		seen.text += "; the others reach its quorum without us"
	}
	for _, t := range s.Payouts {
		if t.At.After(seen.at) {
			seen.at = t.At
		}
	}
	u.inspected[id] = seen
	return seen, nil
}

// needsOurSignature reports whether a session's quorum isn't reached without our accounts.
func (u *UnrequestedSearch) needsOurSignature(s settlement.Session) bool {
	var others int64
	for _, p := range s.Participants {
		if !slices.Contains(u.accounts, p.Address) {
			others += max(p.Weight, 0)
		}
	}
	return others < s.Quorum
}

// describePayouts describes what a closed session paid.
func describePayouts(s settlement.Session) string {
	var parts []string
	for _, t := range s.Payouts {
		if !t.Amount.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %s to %s", t.Amount, t.Asset, t.Wallet))
		}
	}
	switch {
	case s.Undisclosed.Payouts:
		return "doesn't show what was paid"
	case len(parts) == 0:
		return "paid nobody"
	default:
		return "paid " + strings.Join(parts, ", ")
	}
}

func (c observedClose) problem() string {
	text := "closed at the node"
	if !c.at.IsZero() {
		text += " " + c.at.UTC().Format(time.RFC3339)
	}
	text += ", and neither the ledger nor any outcome names it: somebody else closed it"
	if c.text != "" {
		text += "; " + c.text
	}
	return text
}
