package server

import (
	"encoding/json"

	"github.com/shopspring/decimal"
)

// Snapshot is what a node keeps when its process ends, but for what only its generation has: no connections, logins or faults.
type Snapshot struct {
	Served                  []string // wallets to which the faucet was applied
	Funded                  map[string]decimal.Decimal
	Entries                 []Entry
	Transfers               []Transfer
	NextEntry, NextTransfer uint64
	Sessions                []Session // oldest first
	Records                 Records
}

// Snapshot copies the state. Its lists share their elements with the node, which must be locked until they are written.
func (n *State) Snapshot() Snapshot {
	l := n.Ledger
	s := Snapshot{Served: SortedKeys(l.served), Funded: l.Funded, NextEntry: l.NextEntry, NextTransfer: l.NextTransfer, Records: n.Records}
	for _, e := range l.Entries {
		s.Entries = append(s.Entries, *e)
	}
	for _, t := range l.Transfers {
		s.Transfers = append(s.Transfers, *t)
	}
	for _, session := range n.Sessions.All {
		s.Sessions = append(s.Sessions, *session)
	}
	return s
}

// Restore replaces the state of a node that is stopped or doesn't listen yet. The zero value makes it empty.
func (n *State) Restore(s Snapshot) {
	l := newLedger(n.Config)
	l.OnFund = n.Ledger.OnFund
	l.NextEntry, l.NextTransfer = max(s.NextEntry, 1), max(s.NextTransfer, 1)
	for _, wallet := range s.Served {
		l.served[wallet] = true
	}
	for asset, amount := range s.Funded {
		l.Funded[asset] = amount
	}
	d := l.Begin()
	for i := range s.Entries {
		d.entries = append(d.entries, &s.Entries[i])
	}
	for i := range s.Transfers {
		d.transfers = append(d.transfers, &s.Transfers[i])
	}
	d.Commit()
	n.Ledger, n.Sessions, n.Logins, n.Records, n.Faults = l, newSessions(), newLogins(n.Config.Now()), newRecords(), nil
	for i := range s.Sessions {
		n.Sessions.Add(&s.Sessions[i])
	}
	if s.Records.Requests != nil {
		s.Records.inFlight = n.Records.inFlight
		n.Records = s.Records
	}
	if n.Records.Closes == nil {
		n.Records.Closes = map[string][]*CloseRecord{}
	}
}

// OwnState is nil: the generation keeps nothing of its own.
func (n *State) OwnState() any { return nil }

// RestoreOwn does nothing, likewise.
func (n *State) RestoreOwn(json.RawMessage) error { return nil }

// EntriesIn are the entries of an account, as they are reported.
func (l *Ledger) EntriesIn(account string) []EntryRow {
	rows := []EntryRow{}
	for _, e := range l.EntriesOf[account] {
		rows = append(rows, e.Row())
	}
	return rows
}

// Finished is how many requests the node has handled, including those whose answer a fault withheld.
func (n *State) Finished() uint64 { return n.finished.Load() }
