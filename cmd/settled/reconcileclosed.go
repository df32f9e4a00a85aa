package main

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
	"settled/settlement"
)

// closedUnasked is the kind of a session of ours that the node shows closed, though
// neither an entry of the ledger nor an outcome names it.
const closedUnasked = "closed_without_outcome"

// How much a search for such sessions reads at most: pages of closed sessions for
// each account, and sessions one by one, to see how they were closed, and where the
// lists don't say it when.
const (
	mostPages        = 2000 // by hand
	mostPagesServing = 100  // every hour
	mostLooked       = 500
)

// unaskedSearch looks for sessions that somebody closed and nobody asked us to. It
// remembers what it found from one run to the next: a session that was closed stays
// closed.
type unaskedSearch struct {
	accounts []settlement.Address
	missing  string // why there is nothing to ask the node for; empty: there is
	pages    int    // that are read at most, of each account

	nodes  *nodeReader
	since  time.Time // sessions that were closed before are none of our business
	behind bool      // something since then could not be read: the next run begins there again

	listed uint64
	unread []string                           // what was left out in this run, and why
	closed map[settlement.SessionID]time.Time // those listed, and not known of so far; zero: the list doesn't say when
	looked map[settlement.SessionID]closeSeen // those that were read at the node
	strays map[settlement.SessionID]time.Time // what the last run found
}

// closeSeen is what the node shows of a close.
type closeSeen struct {
	at   time.Time // zero: it doesn't say, for nobody was paid
	text string
}

// searchUnasked asks for the sessions of these accounts; of none: those of the
// configured keys.
func (c *config) searchUnasked(accounts []settlement.Address, pages int) *unaskedSearch {
	u := &unaskedSearch{accounts: accounts, pages: pages, looked: map[settlement.SessionID]closeSeen{}}
	if len(accounts) > 0 {
		return u
	}
	if len(c.nodeKeyFiles) == 0 {
		u.missing = "clearnode.key_files is not set: name our accounts by --account"
	}
	signers, err := c.signers()
	if err != nil {
		u.missing = fmt.Sprintf("%s: name our accounts by --account", err)
	}
	for _, signer := range signers {
		u.accounts = append(u.accounts, signer.Address())
	}
	return u
}

// parseAccounts reads --account.
func parseAccounts(texts []string) (all []settlement.Address, err error) {
	for _, text := range texts {
		a, err := settlement.ParseAddress(text)
		if err != nil {
			return nil, misuse{fmt.Errorf("--account: %w", err)}
		}
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// ledgerBegan is when the ledger's first entry was stored; of an empty one, when it
// was made.
func ledgerBegan(ctx context.Context, js jetstream.JetStream, prefix string) (time.Time, error) {
	info, err := ledgerReader(js, prefix).Info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if info.State.Msgs == 0 {
		return info.Created, nil
	}
	return info.State.FirstTime, nil
}

// begin readies it for a run that looks for what was closed since.
func (u *unaskedSearch) begin(nodes *nodeReader, since time.Time) {
	if !u.behind {
		u.since = since.Truncate(time.Second) // as the node tells it
	}
	u.nodes, u.behind, u.listed, u.unread, u.closed = nodes, false, 0, nil, map[settlement.SessionID]time.Time{}
	maps.Copy(u.closed, u.strays)
}

// list reads the node's lists.
func (u *unaskedSearch) list(ctx context.Context, bar *progress) error {
	if u.missing != "" {
		return nil
	}
	for _, of := range u.accounts {
		err := u.listOf(ctx, of, bar)
		switch {
		case errors.Is(err, clearnode.ErrUnlisted):
			u.leaveOut("%s", err)
			return nil
		case errors.Is(err, errNodeGone) || ctx.Err() != nil:
			return fmt.Errorf("%w (--no-node leaves it out)", err)
		case err != nil:
			u.behind = true
			u.leaveOut("%s", err)
		}
	}
	return nil
}

func (u *unaskedSearch) listOf(ctx context.Context, of settlement.Address, bar *progress) error {
	list := u.nodes.lists.ClosedSessions(of, u.since)
	seen := map[settlement.SessionID]bool{}
	defer func() { u.listed += uint64(len(seen)) }()
	for range u.pages {
		var rows []clearnode.ClosedSession
		var more bool
		if err := u.nodes.inTurn(ctx, func(ctx context.Context) (err error) {
			rows, more, err = list.Next(ctx)
			return err
		}); err != nil {
			return err
		}
		for _, row := range rows {
			seen[row.ID], u.closed[row.ID] = true, row.At
		}
		if !more {
			return nil
		}
		bar.at(uint64(len(seen)), 0, fmt.Sprintf("closed sessions of %s at the node", of))
	}
	u.leaveOut("%s has more closed sessions than the %d that were read: narrow it with --since", of, len(seen))
	return nil
}

// leaveOut notes what was not looked at.
func (u *unaskedSearch) leaveOut(format string, args ...any) {
	u.unread = append(u.unread, fmt.Sprintf(format, args...))
}

// without is what was not looked at, and why.
func (u *unaskedSearch) without() string {
	if u.missing != "" {
		return u.missing
	}
	return strings.Join(u.unread, "; ")
}

// known takes a session away that the books know of.
func (u *unaskedSearch) known(id settlement.SessionID) { delete(u.closed, id) }

// findings are the sessions that are left when the books were read. An error is that
// of a node that is gone.
func (u *unaskedSearch) findings(ctx context.Context) (found []discrepancy, err error) {
	before, unread := u.strays, 0
	u.strays = map[settlement.SessionID]time.Time{}
	budget := mostLooked
	for _, id := range slices.Sorted(maps.Keys(u.closed)) {
		seen, err := u.look(ctx, id, &budget)
		switch {
		case errors.Is(err, errNodeGone) || ctx.Err() != nil:
			return nil, fmt.Errorf("%w (--no-node leaves it out)", err)
		case err != nil && u.closed[id].IsZero():
			u.behind = true
			found = append(found, discrepancy{Kind: notRead, Session: id, Problem: fmt.Sprintf("the node lists it as closed, and nothing here names it; it could not be read: %s", err)})
			continue
		}
		if at := u.closed[id]; !at.IsZero() {
			seen.at = at
		} else if seen.text == "" {
			unread++
		}
		if _, again := before[id]; again || !seen.at.IsZero() && !seen.at.Before(u.since) {
			u.strays[id] = seen.at
			found = append(found, discrepancy{Kind: closedUnasked, Session: id, Problem: seen.problem()})
		}
	}
	if unread > 0 {
		u.behind = true
		u.leaveOut("%d sessions of which the lists don't say when they were closed, beyond the %d that were read: run it again", unread, mostLooked)
	}
	return found, nil
}

// look reads a session that is not known of, once, while the budget lasts.
func (u *unaskedSearch) look(ctx context.Context, id settlement.SessionID, budget *int) (closeSeen, error) {
	seen, is := u.looked[id]
	if is || *budget == 0 {
		return seen, nil
	}
	*budget--
	s, err := u.nodes.session(ctx, id)
	if err != nil {
		return seen, err
	}
	seen.text = "it " + paidOut(s)
	if u.needed(s) {
		seen.text += "; nobody reaches its quorum without our signature: who else has that key?"
	} else {
		seen.text += "; the others reach its quorum without us"
	}
	for _, t := range s.Payouts {
		if t.At.After(seen.at) {
			seen.at = t.At
		}
	}
	u.looked[id] = seen
	return seen, nil
}

// needed reports whether a session's quorum isn't reached without our accounts.
func (u *unaskedSearch) needed(s settlement.Session) bool {
	var others int64
	for _, p := range s.Participants {
		if !slices.Contains(u.accounts, p.Address) {
			others += max(p.Weight, 0)
		}
	}
	return others < s.Quorum
}

// paidOut says what a closed session paid.
func paidOut(s settlement.Session) string {
	var parts []string
	for _, t := range s.Payouts {
		if !t.Amount.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %s to %s", t.Amount, t.Asset, t.Wallet))
		}
	}
	switch {
	case s.Hidden.Payouts:
		return "doesn't show what was paid"
	case len(parts) == 0:
		return "paid nobody"
	default:
		return "paid " + strings.Join(parts, ", ")
	}
}

func (c closeSeen) problem() string {
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
