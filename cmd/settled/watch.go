package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/ledger"
	"settled/settlement"
)

func (p *program) watchCommand() *cobra.Command {
	var state, session string
	var from uint64
	c := &cobra.Command{
		Use: "watch", Short: "Show results as they are recorded",
		RunE: func(cmd *cobra.Command, _ []string) error {
			subject, err := watchSubject(state, session)
			if err != nil {
				return misuse{err}
			}
			cfg, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			nc, err := cfg.connect("settled watch", false)
			if err != nil {
				return err
			}
			defer nc.close()
			return watchLedger(cmd.Context(), nc.js, cfg.natsPrefix, subject, from, p.showEntry)
		},
	}
	c.Flags().StringVar(&state, "state", "", "only closing, closed or failed")
	c.Flags().StringVar(&session, "session", "", "only this session")
	c.Flags().Uint64Var(&from, "from", 0, "begin at this sequence; 1 is the first; without it only what comes from now on")
	return c
}

// showEntry prints an entry as it is recorded.
func (p *program) showEntry(m jetstream.Msg, e settlement.Entry, unread error) error {
	switch {
	case p.json():
		return p.printLine(string(m.Data()))
	case unread != nil: // somebody else wrote it; the next ones matter all the same
		return p.printLine(printable(fmt.Sprintf("%s: %v: run `settled ledger verify`", m.Subject(), unread)))
	default:
		return p.printLine(entryText(e))
	}
}

func watchSubject(state, session string) (string, error) {
	switch settlement.EntryState(state) {
	case "":
		state = "*"
	case settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
	default:
		return "", fmt.Errorf("--state %q: want closing, closed or failed", state)
	}
	token := "*"
	if session != "" && session != settlement.UnknownSession {
		id, err := settlement.ParseSessionID(session)
		if err != nil {
			return "", fmt.Errorf("--session: %w", err)
		}
		token = id.Token()
	} else if session != "" {
		token = session
	}
	return "settlement." + state + "." + token, nil
}

// watchLedger hands every matching entry to show, in order, until ctx ends; and why
// it can't be read where it can't.
func watchLedger(ctx context.Context, js jetstream.JetStream, prefix, subject string, from uint64, show func(m jetstream.Msg, e settlement.Entry, unread error) error) error {
	entries := streamPart{stream: ledger.StreamName(prefix), filter: prefix + subject, from: from, fresh: from == 0}
	messages, err := entries.open(ctx, js)
	if err != nil {
		return fmt.Errorf("watch %s: %w: is there such a stream? `settled serve` makes it", ledger.StreamName(prefix), err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: %w", ledger.StreamName(prefix), err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("watch %s: %w", ledger.StreamName(prefix), err)
		}
		e, err := ledger.ParseEntry(m.Subject(), m.Data(), meta.Sequence.Stream)
		if err != nil {
			err = fmt.Errorf("entry %d can't be read: %w", meta.Sequence.Stream, err)
		}
		if err := show(m, e, err); err != nil {
			return err
		}
	}
}

// entryText is one entry on one line.
func entryText(e settlement.Entry) string {
	result := allocationText(e.Allocation)
	if e.Error != nil {
		result = string(e.Error.Code) + ": " + e.Error.Message
	}
	if e.Recovered != nil && *e.Recovered {
		result += " (found closed at the node)"
	}
	return printable(fmt.Sprintf("%s  %6d  %-7s  %-18s  %-13s  %s",
		clock(e.Time), e.Sequence, e.State, e.Scenario, short(e.Session.Token()), result))
}
