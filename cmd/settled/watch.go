package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

func (p *program) watchCommand() *cobra.Command {
	var state, session string
	var from uint64
	c := &cobra.Command{
		Use: "watch", Short: "Show results as they are recorded",
		Long: "Shows results as they are recorded, until interrupted. While NATS or the ledger is missing it reports that on\nstandard error, and continues once it is back.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := watchedToken(session)
			if err == nil {
				err = checkState(state)
			}
			if err != nil {
				return terminal.UsageError(err)
			}
			cfg, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			source, err := audit.NewLedgerSource(&cfg, "settled watch")
			if err != nil {
				return err
			}
			defer source.Close()
			entries := streamreader.Selection{Subjects: []string{ledger.Subject(cfg.NATSPrefix, "*", token)}, From: from, Fresh: from == 0}
			if err := ledger.Follow(cmd.Context(), source.Reader, entries, p.reportFollowError, p.showEntry(settlement.EntryState(state))); err != nil {
				return fmt.Errorf("watch %s: %w", ledger.StreamName(cfg.NATSPrefix), err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "", "only closing, closed or failed")
	c.Flags().StringVar(&session, "session", "", "only this session")
	c.Flags().Uint64Var(&from, "from", 0, "begin at this sequence; 1 is the first; without it only new entries")
	return c
}

// showEntry prints entries of a state, empty for every one, as they are recorded.
func (p *program) showEntry(state settlement.EntryState) func(ledger.Stored) error {
	return func(s ledger.Stored) error {
		switch {
		case s.Foreign != nil && p.JSON(): // continue with the next ones
			p.reportForeign(s.Foreign)
			return nil
		case s.Foreign != nil:
			return p.PrintLine(audit.ForeignText(s.Foreign))
		case s.Err != nil:
			return p.printStored(s, terminal.Printable(fmt.Sprintf("%s: entry %d can't be read: %v: run `settled ledger verify`", s.Subject, s.Sequence, s.Err)))
		case state != "" && s.Entry.State != state:
			return nil
		default:
			return p.printStored(s, entryLine(s.Entry))
		}
	}
}

func checkState(state string) error {
	switch settlement.EntryState(state) {
	case "", settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
		return nil
	default:
		return fmt.Errorf("--state %q: want closing, closed or failed", state)
	}
}

// watchedToken returns what stands for a session in its entries' subjects; "*" for all
// sessions if it is empty.
func watchedToken(session string) (string, error) {
	switch session {
	case "":
		return "*", nil
	case settlement.UnknownSession:
		return session, nil
	}
	id, err := settlement.ParseSessionID(session)
	if err != nil {
		return "", fmt.Errorf("--session: %w", err)
	}
	return id.Token(), nil
}

// reportFollowError reports on standard error why the ledger can't be followed at the
// moment; nil: it can be again.
func (p *program) reportFollowError(err error) error {
	text := "settled: the ledger can be read again"
	switch {
	case errors.Is(err, streamreader.ErrRestored):
		text = fmt.Sprintf("settled: %v", err)
	case err != nil:
		text = fmt.Sprintf("settled: %v; trying again until it can be read", err)
	}
	_, _ = fmt.Fprintln(p.Err, terminal.Printable(text))
	return nil
}

// entryLine formats one entry on one line.
func entryLine(e settlement.Entry) string {
	result := terminal.AllocationText(e.Allocation)
	if e.Error != nil {
		result = string(e.Error.Code) + ": " + e.Error.Message
	}
	if e.Recovered != nil && *e.Recovered {
		result += " (found closed at the node)"
	}
	return terminal.Printable(fmt.Sprintf("%s  %6d  %-7s  %-18s  %-13s  %s",
		terminal.FormatTime(e.Time), e.Sequence, e.State, e.Scenario, terminal.Abbreviate(e.Session.Token()), result))
}
