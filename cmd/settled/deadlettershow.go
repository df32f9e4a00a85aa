package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/runbook"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
	"settled/settlement"
)

func (p *program) deadletterShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SEQUENCE", Short: "Show one dead letter, the state of its session, and what to do", Args: cobra.ExactArgs(1),
		Long: "Shows why an outcome failed, its headers and payload, the ledger's entries of its session, the session at the\nnode (if clearnode.url is set), the result that a replay would have, and what the runbook advises.",
		RunE: func(cmd *cobra.Command, args []string) error {
			sequences, err := sequenceArguments(args)
			if err != nil {
				return err
			}
			return p.withDeadLetters(cmd, "", func(ctx context.Context, d *deadLetterClient) error {
				shown, err := newDeadLetterReport(ctx, d, sequences[0])
				if err != nil {
					return err
				}
				return p.Print(shown, shown.text())
			})
		},
	}
}

// deadLetterReport is a dead letter with what the decision about it depends on.
type deadLetterReport struct {
	deadletter.Letter
	Headers map[string][]string `json:"headers"`
	Payload any                 `json:"payload"` // as JSON where it is JSON, else as text
	Event   eventReport         `json:"event"`
	Ledger  ledgerReport        `json:"ledger"`
	Node    nodeReport          `json:"node"`
	Replay  *status.Forecast    `json:"replay"` // null if it is unknown
	Advice  runbook.Advice      `json:"advice"`
}

// eventReport is the message as a CloudEvent.
type eventReport struct {
	Source  string `json:"source"`
	ID      string `json:"id"`
	Type    string `json:"type"`
	Invalid string `json:"invalid,omitempty"` // why it can't be read
}

// ledgerReport is the session's entries as stored.
type ledgerReport struct {
	Entries []json.RawMessage `json:"entries"`
	Error   string            `json:"error,omitempty"`
	texts   []string
}

// nodeReport is the present session at the node.
type nodeReport struct {
	Asked        bool               `json:"asked"`
	Error        string             `json:"error,omitempty"`
	Open         bool               `json:"open"`
	Version      uint64             `json:"version,omitempty"`
	Participants []string           `json:"participants,omitempty"`
	Balance      []settlement.Total `json:"balance,omitempty"`
	PaidOut      []string           `json:"paid_out,omitempty"`
}

func newDeadLetterReport(ctx context.Context, d *deadLetterClient, sequence uint64) (deadLetterReport, error) {
	l, err := d.Get(ctx, sequence)
	if err != nil {
		return deadLetterReport{}, err
	}
	outcome := d.Outcome(l)
	s := deadLetterReport{
		Letter: l, Headers: l.Header, Payload: payload(l.Payload), Advice: runbook.Codes()[l.Code],
		Event: eventReport{Source: outcome.Ref.Source, ID: outcome.Ref.ID, Type: outcome.Ref.Type},
	}
	if outcome.Invalid != nil {
		s.Event.Invalid = outcome.Invalid.Message
	}
	o := newReplayPreview(ctx, d.cfg, d.nats)
	defer o.close()
	s.Ledger = o.ledgerEntries(ctx, outcome.Session)
	s.Node = o.nodeSession(ctx, outcome.Session)
	if f, err := o.forecast(ctx, outcome); err == nil {
		f.DeadLetter = sequence
		s.Replay = &f
	}
	return s, nil
}

func (o *replayPreview) ledgerEntries(ctx context.Context, id settlement.SessionID) ledgerReport {
	s := ledgerReport{Entries: []json.RawMessage{}}
	if id == "" {
		return s
	}
	if o.ledgerErr != nil {
		s.Error = o.ledgerErr.Error()
		return s
	}
	stored, err := o.ledger.Session(ctx, id)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	for _, e := range stored {
		if e.Foreign != nil {
			s.texts = append(s.texts, terminal.Printable(e.Foreign.Error()))
			continue
		}
		s.texts = append(s.texts, entryDetails(e))
		if json.Valid(e.Payload) {
			s.Entries = append(s.Entries, e.Payload)
		}
	}
	return s
}

func (o *replayPreview) nodeSession(ctx context.Context, id settlement.SessionID) nodeReport {
	if id == "" {
		return nodeReport{Error: "its session id can't be read"}
	}
	session, err := o.node.Session(ctx, id, settlement.ReadOptions{Version: true})
	if err != nil {
		var waiting *settlement.Waiting
		if errors.As(err, &waiting) && waiting.Err != nil {
			err = waiting.Err
		}
		return nodeReport{Asked: !errors.Is(err, errNodeNotAsked), Error: err.Error()}
	}
	n := nodeReport{Asked: true, Open: session.Open, Version: session.Version, Balance: session.Balance()}
	for _, p := range session.Participants {
		n.Participants = append(n.Participants, fmt.Sprintf("%s, weight %d of %d", p.Spelling, p.Weight, session.Quorum))
	}
	for _, t := range session.Payouts {
		if !t.Amount.IsZero() {
			n.PaidOut = append(n.PaidOut, fmt.Sprintf("%s %s to %s at %s", t.Amount, t.Asset, t.Wallet, t.At.UTC().Format(time.RFC3339)))
		}
	}
	return n
}

// text formats the report for people.
func (s deadLetterReport) text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, terminal.Printable(fmt.Sprintf(format, args...)))
	}
	line("dead letter", "%d, failed at %s", s.Sequence, terminal.FormatTime(s.FailedAt))
	line("code", "%s (%s)", s.Code, s.Class)
	line("error", "%s", s.Error)
	line("scenario", "%s", s.Scenario)
	line("session", "%s", s.Session.Token())
	line("outcome", "%s of %s, %s", s.Event.ID, s.Event.Source, s.Origin)
	line("attempts", "%d", s.Attempts)
	if s.Replays > 0 {
		line("replays", "%d before it failed", s.Replays)
	}
	for _, name := range sortedNames(s.Header) {
		line("header", "%s: %s", name, strings.Join(s.Header[name], ", "))
	}
	b.WriteString("\nPayload\n" + indented(payloadText(s.Letter.Payload)))
	b.WriteString("\nIn the ledger\n" + indented(s.Ledger.text()))
	b.WriteString("\nAt the node, now\n" + indented(s.Node.text()))
	if s.Replay != nil {
		b.WriteString("\nResult of a replay now\n" + indented(s.Replay.Text()))
	}
	b.WriteString("\nWhat to do (deploy/RUNBOOK.md)\n" + indented(s.Advice.Text()))
	return strings.TrimRight(b.String(), "\n")
}

func (l ledgerReport) text() string {
	switch {
	case l.Error != "":
		return terminal.Printable("can't be read: " + l.Error)
	case len(l.texts) == 0:
		return "no entry of this session"
	default:
		return strings.Join(l.texts, "\n")
	}
}

func (n nodeReport) text() string {
	if n.Error != "" {
		return terminal.Printable(n.Error)
	}
	lines := []string{map[bool]string{true: "open", false: "closed"}[n.Open]}
	if n.Version > 0 {
		lines[0] += ", version " + strconv.FormatUint(n.Version, 10)
	}
	for _, t := range n.Balance {
		lines = append(lines, fmt.Sprintf("in it        %s %s", t.Amount, t.Asset))
	}
	for _, p := range n.Participants {
		lines = append(lines, "participant  "+p)
	}
	for _, p := range n.PaidOut {
		lines = append(lines, "paid out     "+p)
	}
	return terminal.PrintableLines(strings.Join(lines, "\n"))
}

// payloadText formats a payload: JSON with line breaks.
func payloadText(payload []byte) string {
	if len(payload) == 0 {
		return "(empty)"
	}
	return terminal.PrintableLines(string(bytes.TrimRight(indentJSON(payload), "\n")))
}

// indented indents a text, and wraps lines that are too wide for a terminal at spaces.
func indented(text string) string {
	const width = 116
	var b strings.Builder
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		deeper := strings.Repeat(" ", len(l)-len(strings.TrimLeft(l, " "))+2)
		for len(l) > width {
			at := strings.LastIndexByte(l[:width], ' ')
			if word, _, _ := strings.Cut(l[at+1:], " "); at <= len(deeper) || len(word) > width-len(deeper) {
				break // a word that fits on no line stays beside its name
			}
			b.WriteString("    " + l[:at] + "\n")
			l = deeper + l[at+1:]
		}
		b.WriteString("    " + l + "\n")
	}
	return b.String()
}

func sortedNames(header map[string][]string) []string {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
