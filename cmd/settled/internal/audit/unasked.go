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

// ClosedUnasked is the kind of a session of ours that the node shows closed, though
// neither an entry of the ledger nor an outcome names it.
const ClosedUnasked = "closed_without_outcome"

// How much a search for such sessions reads at most: pages of closed sessions for
// each account, and sessions one by one, to see how they were closed, and where the
// lists don't say it when.
const (
	MostPages        = 2000 // by hand
	MostPagesServing = 100  // every hour
	mostLooked       = 500
)

// UnaskedSearch looks for sessions that somebody closed and nobody asked us to. It
// remembers what it found from one run to the next: a session that was closed stays
// closed.
type UnaskedSearch struct {
	accounts []settlement.Address
	Missing  string // why there is nothing to ask the node for; empty: there is
	Pages    int    // that are read at most, of each account

	nodes  *NodeReader
	Since  time.Time // sessions that were closed before are none of our business
	Behind bool      // something since then could not be read: the next run begins there again

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

// SearchUnasked asks for the sessions of these accounts; of none: those of the
// configured keys.
func SearchUnasked(c *config.Config, accounts []settlement.Address, pages int) *UnaskedSearch {
	u := &UnaskedSearch{accounts: accounts, Pages: pages, looked: map[settlement.SessionID]closeSeen{}}
	if len(accounts) > 0 {
		return u
	}
	if len(c.NodeKeyFiles) == 0 {
		u.Missing = "clearnode.key_files is not set: name our accounts by --account"
	}
	signers, err := c.Signers()
	if err != nil {
		u.Missing = fmt.Sprintf("%s: name our accounts by --account", err)
	}
	for _, signer := range signers {
		u.accounts = append(u.accounts, signer.Address())
	}
	return u
}

// ParseAccounts reads --account.
func ParseAccounts(texts []string) (all []settlement.Address, err error) {
	for _, text := range texts {
		a, err := settlement.ParseAddress(text)
		if err != nil {
			return nil, terminal.UsageError(fmt.Errorf("--account: %w", err))
		}
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// LedgerBegan is when the ledger's first entry was stored; of an empty one, when it
// was made.
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

// Begin readies it for a run that looks for what was closed since.
func (u *UnaskedSearch) Begin(nodes *NodeReader, since time.Time) {
	if !u.Behind {
		u.Since = since.Truncate(time.Second) // as the node tells it
	}
	u.nodes, u.Behind, u.listed, u.unread, u.closed = nodes, false, 0, nil, map[settlement.SessionID]time.Time{}
	maps.Copy(u.closed, u.strays)
}

// list reads the node's lists.
func (u *UnaskedSearch) list(ctx context.Context, bar *terminal.Progress) error {
	if u.Missing != "" {
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
			u.Behind = true
			u.leaveOut("%s", err)
		}
	}
	return nil
}

func (u *UnaskedSearch) listOf(ctx context.Context, of settlement.Address, bar *terminal.Progress) error {
	list := u.nodes.Lists.ClosedSessions(of, u.Since)
	seen := map[settlement.SessionID]bool{}
	defer func() { u.listed += uint64(len(seen)) }()
	for range u.Pages {
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
		bar.At(uint64(len(seen)), 0, fmt.Sprintf("closed sessions of %s at the node", of))
	}
	u.leaveOut("%s has more closed sessions than the %d that were read: narrow it with --since", of, len(seen))
	return nil
}

// leaveOut notes what was not looked at.
func (u *UnaskedSearch) leaveOut(format string, args ...any) {
	u.unread = append(u.unread, fmt.Sprintf(format, args...))
}

// Without is what was not looked at, and why.
func (u *UnaskedSearch) Without() string {
	if u.Missing != "" {
		return u.Missing
	}
	return strings.Join(u.unread, "; ")
}

// known takes a session away that the books know of.
func (u *UnaskedSearch) known(id settlement.SessionID) { delete(u.closed, id) }

// findings are the sessions that are left when the books were read. An error is that
// of a node that is gone.
func (u *UnaskedSearch) findings(ctx context.Context) (found []Discrepancy, err error) {
	before, unread := u.strays, 0
	u.strays = map[settlement.SessionID]time.Time{}
	budget := mostLooked
	for _, id := range slices.Sorted(maps.Keys(u.closed)) {
		seen, err := u.look(ctx, id, &budget)
		switch {
		case errors.Is(err, errNodeGone) || ctx.Err() != nil:
			return nil, fmt.Errorf("%w (--no-node leaves it out)", err)
		case err != nil && u.closed[id].IsZero():
			u.Behind = true
			found = append(found, Discrepancy{Kind: notRead, Session: id, Problem: fmt.Sprintf("the node lists it as closed, and nothing here names it; it could not be read: %s", err)})
			continue
		}
		if at := u.closed[id]; !at.IsZero() {
			seen.at = at
		} else if seen.text == "" {
			unread++
		}
		if _, again := before[id]; again || !seen.at.IsZero() && !seen.at.Before(u.Since) {
			u.strays[id] = seen.at
			found = append(found, Discrepancy{Kind: ClosedUnasked, Session: id, Problem: seen.problem()})
		}
	}
	if unread > 0 {
		u.Behind = true
		u.leaveOut("%d sessions of which the lists don't say when they were closed, beyond the %d that were read: run it again", unread, mostLooked)
	}
	return found, nil
}

// look reads a session that is not known of, once, while the budget lasts.
func (u *UnaskedSearch) look(ctx context.Context, id settlement.SessionID, budget *int) (closeSeen, error) {
	seen, is := u.looked[id]
	if is || *budget == 0 {
		return seen, nil
	}
	*budget--
	s, err := u.nodes.ReadSession(ctx, id)
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
func (u *UnaskedSearch) needed(s settlement.Session) bool {
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
	case s.Undisclosed.Payouts:
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
