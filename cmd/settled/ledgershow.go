package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/settlement"
)

func (p *program) ledgerShow(cmd *cobra.Command, arg string) error {
	sequence, notSequence := strconv.ParseUint(arg, 10, 64)
	id, err := sessionArgument(arg)
	if err != nil && notSequence != nil {
		return terminal.UsageError(fmt.Errorf("%w, or the SEQUENCE of one of its entries: `settled ledger list` shows them", err))
	}
	cfg, nc, l, err := p.openLedger(cmd)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	if notSequence == nil {
		if id, err = sessionOf(cmd.Context(), nc.JS, ledger.StreamName(cfg.NATSPrefix), sequence); err != nil {
			return err
		}
	}
	all, err := l.Session(cmd.Context(), id)
	if err != nil {
		return err
	}
	entries := slices.DeleteFunc(all, func(s ledger.Stored) bool {
		if s.Foreign != nil {
			p.reportForeign(s.Foreign)
		}
		return s.Foreign != nil
	})
	if len(entries) == 0 {
		return fmt.Errorf("the ledger has no entry of session %s", id.Token())
	}
	if !p.JSON() {
		if err := p.PrintLine(sessionSummary(id, entries) + "\n"); err != nil {
			return err
		}
	}
	for _, s := range entries {
		if err := p.printStored(s, entryDetails(s)); err != nil {
			return err
		}
	}
	return nil
}

// printStored writes an entry as it is stored, on one line, or the text for people.
func (p *program) printStored(s ledger.Stored, text string) error {
	if !p.JSON() {
		return p.PrintLine(text)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, s.Payload); err != nil {
		return fmt.Errorf("entry %d: %w: run `settled ledger verify`", s.Sequence, err)
	}
	return p.PrintLine(string(terminal.EscapeJSON(line.Bytes())))
}

// sessionOf returns the session that an entry belongs to.
func sessionOf(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (settlement.SessionID, error) {
	s, err := audit.EntryAt(ctx, js, stream, sequence)
	if err != nil {
		return "", err
	}
	return sessionArgument(s.Subject[strings.LastIndexByte(s.Subject, '.')+1:])
}

func pluralize(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sessionSummary summarizes the state of a session.
func sessionSummary(id settlement.SessionID, entries []ledger.Stored) string {
	closings, failures := 0, 0
	for _, s := range entries {
		switch s.Entry.State {
		case settlement.EntryClosing:
			closings++
		case settlement.EntryFailed:
			failures++
		}
	}
	text := fmt.Sprintf("Session %s: %s, %s, %s", id.Token(), pluralize(len(entries), "entry", "entries"), pluralize(closings, "attempt", "attempts"), pluralize(failures, "failure", "failures"))
	last := entries[len(entries)-1].Entry
	if last.Standing == nil {
		return text + "."
	}
	st := settlement.Head{Last: &last}.Standing()
	switch st.State {
	case settlement.Free:
		return text + ". It is free."
	case settlement.Closing:
		return terminal.Printable(fmt.Sprintf("%s. It is being closed by outcome %s of %s since entry %d.", text, st.ID, st.Source, st.Sequence))
	default:
		return terminal.Printable(fmt.Sprintf("%s. It is closed by outcome %s of %s, entry %d.", text, st.ID, st.Source, st.Sequence))
	}
}

// entryDetails formats one entry with its most important members.
func entryDetails(s ledger.Stored) string {
	if s.Err != nil {
		return terminal.Printable(fmt.Sprintf("%6d  NOT READABLE: %s", s.Sequence, s.Err))
	}
	e := s.Entry
	var b strings.Builder
	fmt.Fprintf(&b, "%s  entry %d  %s  attempt %d", terminal.FormatTime(e.Time), e.Sequence, strings.ToUpper(string(e.State)), e.Attempt)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "\n    %-12s %s", name, terminal.Printable(fmt.Sprintf(format, args...)))
	}
	if e.Outcome.ID == "" {
		line("outcome", "not readable, %s/%d", e.Outcome.Stream, e.Outcome.Sequence)
	} else {
		line("outcome", "%s of %s, %s/%d (%s)", e.Outcome.ID, e.Outcome.Source, e.Outcome.Stream, e.Outcome.Sequence, e.Outcome.Type)
	}
	if e.Standing != nil {
		line("standing", "%s", strings.TrimSpace(string(e.Standing.State)+" "+e.Standing.ID))
	}
	outcomeLines(e, line)
	for _, a := range e.Allocation {
		line("allocation", "%s %s %s", a.Participant, a.Amount, a.Asset)
	}
	requestLines(e, line)
	nodeLines(e, line)
	if e.Error != nil {
		line("error", "%s (%s): %s", e.Error.Code, e.Error.Class, e.Error.Message)
		line("dead letter", "%d", e.DeadLetter)
	}
	return b.String()
}

// lineFunc writes one named line of an entry.
type lineFunc func(name, format string, args ...any)

// outcomeLines writes the content of the outcome, and the policy that settled it.
func outcomeLines(e settlement.Entry, line lineFunc) {
	if e.Reference != "" {
		line("reference", "%s", e.Reference)
	}
	if e.Reason != "" {
		line("reason", "%s", e.Reason)
	}
	for _, proof := range e.Evidence {
		line("evidence", "%s", proof)
	}
	if e.Policy != nil {
		line("policy", "%s (%s)", e.Policy.Name, e.Policy.Digest)
	}
}

// requestLines writes the request, and until when it may take effect.
func requestLines(e settlement.Entry, line lineFunc) {
	if e.Request != nil {
		line("request", "%d, signed as of %s, SHA-256 %s", e.Request.ID, time.UnixMilli(int64(e.Request.Timestamp)).UTC().Format(time.RFC3339), e.Request.Digest) // #nosec G115 -- milliseconds since 1970
	}
	if e.ValidUntil != nil {
		line("fence", "expires at %s on the node's clock", e.ValidUntil.UTC().Format(time.RFC3339))
	}
	if e.BaseVersion != nil {
		line("base version", "%d", *e.BaseVersion)
	}
}

// nodeLines writes the node's answer, and whether the node signed it.
func nodeLines(e settlement.Entry, line lineFunc) {
	if e.Node == nil {
		return
	}
	how := ""
	if e.Recovered != nil && *e.Recovered {
		how = ", found closed"
	}
	line("node", "%s at %s, %s, request %d%s", e.Node.Address, e.Node.URL, e.Node.Protocol, e.Node.RequestID, how)
	if e.SessionVersion != nil {
		line("version", "%d", *e.SessionVersion)
	}
	line("answer", "%s", e.Node.Response)
	switch err := clearnode.VerifyAnswer(*e.Node); {
	case err != nil:
		line("signature", "%s: NOT THE NODE'S: %s", e.Node.Signature, err)
	case e.Node.Signature == "":
		line("signature", "none: this generation of node signs no answers")
	default:
		line("signature", "%s, the node's", e.Node.Signature)
	}
}
