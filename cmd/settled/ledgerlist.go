package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// entryFilter selects entries of the ledger.
type entryFilter struct {
	state, scenario, reference string
	since, before              string
	after                      uint64
	limit                      int
	session                    string // a token of a subject; empty: all

	from, to time.Time // since and before, as they were read
}

// clockSlack is by how much the clock of an entry's writer may differ from the NATS
// server's: entries are searched by the server's time and selected by the writer's.
const clockSlack = time.Hour

// stateAll selects entries of every state.
const stateAll = "all"

func (f *entryFilter) addFlags(c *cobra.Command, state string) {
	c.Flags().StringVar(&f.state, "state", state, "only closing, closed or failed; all")
	c.Flags().StringVar(&f.scenario, "scenario", "", "only this scenario")
	c.Flags().StringVar(&f.reference, "reference", "", "only this exact reference")
	c.Flags().StringVar(&f.since, "since", "", "only entries since: a day (2026-11-01, UTC), a time (2026-11-22T03:00:00Z) or a duration before now (2h)")
	c.Flags().StringVar(&f.before, "before", "", "only entries before: the same")
}

// parse validates the flags.
func (f *entryFilter) parse(now time.Time) (err error) {
	states := []string{string(settlement.EntryClosing), string(settlement.EntryClosed), string(settlement.EntryFailed), stateAll}
	if !slices.Contains(states, f.state) {
		return terminal.UsageError(fmt.Errorf("--state %q: want %s", f.state, strings.Join(states, ", ")))
	}
	if f.limit < 0 {
		return terminal.UsageError(fmt.Errorf("--limit %d: want 0, which is all, or more", f.limit))
	}
	if f.from, err = dayFlag("since", f.since, now); err != nil {
		return err
	}
	if f.to, err = dayFlag("before", f.before, now); err != nil {
		return err
	}
	if !f.from.IsZero() && !f.to.IsZero() && !f.from.Before(f.to) {
		return terminal.UsageError(errors.New("--since is not before --before: nothing could be between them"))
	}
	return nil
}

// dayFlag is timeFlag that also accepts a day, which begins at midnight UTC.
func dayFlag(name, text string, now time.Time) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, nil
	}
	return timeFlag(name, text, now)
}

func (f *entryFilter) matches(s ledger.Stored) bool {
	at := s.Time
	if s.Err == nil {
		at = s.Entry.Time
	}
	return (s.Err != nil || f.state == stateAll || f.state == string(s.Entry.State)) && (f.from.IsZero() || !at.Before(f.from)) && (f.to.IsZero() || at.Before(f.to)) &&
		(f.scenario == "" || f.scenario == string(s.Entry.Scenario)) &&
		(f.reference == "" || f.reference == s.Entry.Reference)
}

// selection returns where in the stream the selected entries are. chosen reports whether
// it leaves out messages of a session, as it does for failed entries, which are few. For
// other states all messages are read: without its intent, a close can't be distinguished
// from a copy.
func (f *entryFilter) selection(prefix string) (s streamreader.Selection, chosen bool) {
	state := settlement.EntryState("*")
	if chosen = f.state == string(settlement.EntryFailed); chosen {
		state = settlement.EntryFailed
	}
	session := f.session
	if session == "" {
		session = "*"
	}
	s = streamreader.Selection{Subjects: []string{ledger.Subject(prefix, state, session)}}
	if f.after > 0 {
		s.From = f.after + 1
	} else if !f.from.IsZero() {
		s.Since = f.from.Add(-clockSlack)
	}
	return s, chosen
}

// eachEntry calls fn with the selected entries in the order of the ledger, with Err set on
// those that can't be read, and reports foreign messages. seen, if not nil, is called with
// the sequence of every message that was read.
func (p *program) eachEntry(ctx context.Context, f *entryFilter, js jetstream.JetStream, prefix string, seen func(uint64), fn func(ledger.Stored) error) error {
	selection, chosen := f.selection(prefix)
	_, err := ledger.List(ctx, audit.LedgerReader(js, prefix), selection, chosen, func(s ledger.Stored) error {
		if seen != nil {
			seen(s.Sequence)
		}
		switch {
		case !f.to.IsZero() && s.Time.After(f.to.Add(clockSlack)):
			return streamreader.ErrEnough
		case s.Foreign != nil:
			p.reportForeign(s.Foreign)
		case f.matches(s):
			return fn(s)
		}
		return nil
	})
	return err
}

func (p *program) ledgerListCommand() *cobra.Command {
	var f entryFilter
	c := &cobra.Command{
		Use: "list", Short: "List entries, oldest first",
		Long: "Lists entries in the order of the ledger. After a page of --limit entries, --after with the last sequence shown\nlists the next one. --since and --before refer to the time in the entry.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			if f.session != "" {
				id, err := sessionArgument(f.session)
				if err != nil {
					return terminal.UsageError(fmt.Errorf("--session: %w", err))
				}
				f.session = id.Token()
			}
			return p.ledgerList(cmd, &f)
		},
	}
	f.addFlags(c, stateAll)
	c.Flags().IntVar(&f.limit, "limit", 0, "at most this many; 0 is all")
	c.Flags().StringVar(&f.session, "session", "", "only this session")
	c.Flags().Uint64Var(&f.after, "after", 0, "only entries after this sequence")
	return c
}

// listedEntry is one line of `settled ledger list --output json`.
type listedEntry struct {
	Sequence   uint64                   `json:"sequence"`
	Time       time.Time                `json:"time"`
	State      settlement.EntryState    `json:"state"`
	Session    settlement.SessionID     `json:"session_id"`
	Scenario   settlement.Scenario      `json:"scenario"`
	Reference  string                   `json:"reference"`
	Outcome    settlement.OutcomeRef    `json:"outcome"`
	Attempt    int                      `json:"attempt"`
	Standing   settlement.StandingState `json:"standing"` // of the session, after this entry
	Allocation []settlement.Allocation  `json:"allocations"`
	Recovered  bool                     `json:"recovered"`
	Error      *settlement.Failure      `json:"error"`
	DeadLetter uint64                   `json:"dead_letter"`
	Problem    string                   `json:"problem,omitempty"` // why the entry can't be read; the members above are then empty
}

func newListedEntry(s ledger.Stored) listedEntry {
	if s.Err != nil {
		return listedEntry{Sequence: s.Sequence, Time: s.Time, Allocation: []settlement.Allocation{}, Problem: s.Err.Error()}
	}
	e := s.Entry
	l := listedEntry{
		Sequence: e.Sequence, Time: e.Time, State: e.State, Session: e.Session, Scenario: e.Scenario, Reference: e.Reference,
		Outcome: e.Outcome, Attempt: e.Attempt, Allocation: e.Allocation, Recovered: e.Recovered != nil && *e.Recovered,
		Error: e.Error, DeadLetter: e.DeadLetter,
	}
	if e.Standing != nil {
		l.Standing = e.Standing.State
	}
	if l.Allocation == nil {
		l.Allocation = []settlement.Allocation{}
	}
	return l
}

const listRow = "%8s  %s  %-7s  %-18s  %-13s  %-20s  %s"

func listedText(s ledger.Stored) string {
	if s.Err != nil {
		return terminal.Printable(fmt.Sprintf("%8d  %s  NOT READABLE: %s", s.Sequence, terminal.FormatTime(s.Time), s.Err))
	}
	e := s.Entry
	result := terminal.AllocationText(e.Allocation)
	if e.Error != nil {
		result = string(e.Error.Code) + ": " + e.Error.Message
	}
	return terminal.Printable(fmt.Sprintf(listRow, fmt.Sprint(e.Sequence), terminal.FormatTime(e.Time), e.State, e.Scenario, terminal.Abbreviate(e.Session.Token()), e.Reference, result))
}

func (p *program) ledgerList(cmd *cobra.Command, f *entryFilter) error {
	cfg, nc, err := p.connect(cmd, "settled ledger")
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	shown, after := 0, uint64(0)
	err = p.eachEntry(cmd.Context(), f, nc.JS, cfg.NATSPrefix, nil, func(s ledger.Stored) error {
		if f.limit > 0 && shown == f.limit {
			_, _ = fmt.Fprintf(p.Err, "There are more: go on with --after %d.\n", after)
			return streamreader.ErrEnough
		}
		if shown++; shown == 1 && !p.JSON() {
			if err := p.PrintLine(fmt.Sprintf(listRow, "SEQUENCE", fmt.Sprintf("%-*s", len(terminal.FormatTime(time.Now())), "TIME"), "STATE", "SCENARIO", "SESSION", "REFERENCE", "WHO GOT WHAT, OR WHY NOT")); err != nil {
				return err
			}
		}
		after = s.Sequence
		return p.Print(newListedEntry(s), listedText(s))
	})
	if err == nil && shown == 0 && !p.JSON() {
		return p.PrintLine("No entries.")
	}
	return err
}
