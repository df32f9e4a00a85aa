package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/settlement"
)

// verifyFlags are the flags of `settled ledger verify`.
type verifyFlags struct {
	noNode   bool
	rate     float64
	anchor   string
	manifest string
	signers  []string
	sample   int
	full     bool
}

// auditRate is the default number of sessions that an audit reads a second at the node.
const auditRate = 50

func (p *program) ledgerVerifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use: "verify [SESSION]", Short: "Recompute the ledger from its stored bytes, and compare it with the node", Args: cobra.MaximumNArgs(1),
		Long: `Recomputes every session's hash chain from the stored bytes, re-checks the node's signature on each closed entry,
and that a closed entry pays what its intent said. Then reads each closed session at the node (clearnode.url; no key
is needed) and compares row by row what was paid. A legacy node doesn't show that: for such a session it verifies only
that it is closed, and counts it as not comparable. Exits 1 if anything differs or could not be compared.

The anchor that is printed is the last entry's sequence and SHA-256. Keep it elsewhere, and pass it to a later run as
--anchor: a hash chain can't show that its own tail was removed, an older anchor can.

With --manifest FILE, which settled ledger seal writes, it reads the entries after the last sealed segment, and --sample
sealed segments chosen at random, and compares those with the manifest. It says what it did not read. --full reads all.
--signer 0x… demands that every segment is signed by that address.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := f.audit(args)
			if err != nil {
				return err
			}
			return p.ledgerVerify(cmd, f, a)
		},
	}
	c.Flags().BoolVar(&f.noNode, "no-node", false, "don't compare with the node")
	c.Flags().Float64Var(&f.rate, "rate", auditRate, "sessions read a second at the node; 0: no limit but the node's")
	c.Flags().StringVar(&f.anchor, "anchor", "", "an earlier anchor, SEQUENCE or SEQUENCE:SHA256, which the ledger must still contain")
	c.Flags().StringVar(&f.manifest, "manifest", "", "file of the sealed segments: read only what follows them, and a sample of them")
	c.Flags().StringSliceVar(&f.signers, "signer", nil, "address that must have signed the manifest; one of several")
	c.Flags().IntVar(&f.sample, "sample", 2, "number of sealed segments that are read again")
	c.Flags().BoolVar(&f.full, "full", false, "read the sealed segments too, all of them")
	return c
}

func (f verifyFlags) audit(args []string) (ledger.Audit, error) {
	a := ledger.Audit{VerifyFunc: clearnode.VerifyAnswer}
	if f.rate < 0 {
		return a, terminal.UsageError(fmt.Errorf("--rate %g: want 0 or more", f.rate))
	}
	if f.anchor != "" {
		anchor, err := ledger.ParseAnchor(f.anchor)
		if err != nil {
			return a, terminal.UsageError(err)
		}
		a.Anchor = &anchor
	}
	if f.manifest == "" && len(f.signers) > 0 {
		return a, terminal.UsageError(errors.New("--signer is who signed the manifest: name that with --manifest"))
	}
	if len(args) == 0 {
		return a, nil
	}
	id, err := sessionArgument(args[0])
	switch {
	case f.manifest != "":
		return a, terminal.UsageError(errors.New("--manifest is of the whole ledger: leave the session out"))
	case err != nil:
		return a, err
	case id == "":
		return a, terminal.UsageError(errors.New("entries of unknown sessions have no chain; leave the session out to verify all"))
	case a.Anchor != nil:
		return a, terminal.UsageError(errors.New("--anchor is of the whole ledger: leave the session out"))
	}
	a.Session = id
	return a, nil
}

func (p *program) ledgerVerify(cmd *cobra.Command, f verifyFlags, a ledger.Audit) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	if cfg.NodeURL == "" && !f.noNode {
		return terminal.UsageError(errors.New("clearnode.url is not set: name the node to compare with, or say --no-node"))
	}
	_, nc, l, err := p.openLedger(cmd)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	info, err := audit.LedgerReader(nc.JS, cfg.NATSPrefix).Info(cmd.Context())
	if err != nil {
		return err
	}
	total := info.State.LastSeq
	boundHeap()
	v := verification{program: p, bar: p.Progress("verify"), total: total, whole: a.Session == ""}
	defer v.bar.Clear()
	if f.manifest != "" {
		if v.sealed, err = openSealed(f, info); err != nil {
			return err
		}
		if v.sealed.wrong != "" {
			return v.print(v.sealed.unusable())
		}
	}
	if !f.noNode {
		reader, err := audit.OpenNode(&cfg, f.rate)
		if err != nil {
			return err
		}
		defer reader.Close()
		v.nodes = audit.StartComparison(cmd.Context(), reader, func(e settlement.Entry, read uint64) {
			v.bar.Update(e.Sequence, total, fmt.Sprintf("%d sessions compared with the node", read))
		})
	}
	return v.run(cmd.Context(), l, a)
}

// verification is one run of `settled ledger verify`.
type verification struct {
	*program
	bar    *terminal.Progress
	total  uint64
	whole  bool              // not one session alone
	nodes  *audit.Comparison // nil: without the node
	sealed *sealedAudit      // nil: without a manifest
}

func (v *verification) run(ctx context.Context, l *ledger.Ledger, a ledger.Audit) error {
	a.ProgressFunc = func(r ledger.Report) {
		v.bar.Update(r.Last, v.total, fmt.Sprintf("%d findings", len(r.Findings)))
	}
	if v.nodes != nil {
		a.ClosedFunc = v.nodes.Add
	}
	if v.sealed != nil {
		v.sealed.prepare(&a)
	}
	report, err := l.Verify(ctx, a)
	if err == nil && v.sealed != nil {
		err = v.sealed.compare(ctx, l, report, v.bar)
	}
	if v.nodes != nil {
		if broken := v.nodes.End(); broken != nil {
			return fmt.Errorf("compare with the node: %w (--no-node leaves it out)", broken)
		}
	}
	if err != nil {
		return err
	}
	v.bar.Clear()
	return v.print(v.result(report))
}

// verifyResult is what `settled ledger verify` prints as JSON.
type verifyResult struct {
	OK         bool            `json:"ok"`
	Entries    uint64          `json:"entries"`
	Sessions   uint64          `json:"sessions"`
	Closed     uint64          `json:"closed"`
	Unknown    uint64          `json:"unknown"`
	Foreign    uint64          `json:"foreign"` // messages that are not entries, and have no effect
	Last       uint64          `json:"last_sequence"`
	LastDigest string          `json:"last_digest"`
	Anchor     string          `json:"anchor"` // for --anchor of a later run; empty where nothing, or one session, was looked at
	Node       *verifiedNode   `json:"node"`   // null: not compared with the node
	Findings   []verifyFinding `json:"findings"`
	Omitted    uint64          `json:"findings_omitted,omitempty"` // beyond those that are listed

	Manifest *verifiedManifest `json:"manifest,omitempty"` // the totals are of what was read after it then
}

// verifiedNode is how much was compared with the node.
type verifiedNode struct {
	Compared      uint64 `json:"compared"`       // sessions
	NotComparable uint64 `json:"not_comparable"` // of these: only checked to be closed, because the node doesn't show what was paid
}

type verifyFinding struct {
	Kind     string               `json:"kind"` // ledger, manifest, or one of the node's
	Session  settlement.SessionID `json:"session_id"`
	Sequence uint64               `json:"sequence"`
	Problem  string               `json:"problem"`
}

func (f verifyFinding) text() string {
	if f.Kind == manifestKind {
		return f.Problem
	}
	return fmt.Sprintf("entry %d: %s: %s", f.Sequence, f.Kind, f.Problem)
}

func (v *verification) result(report ledger.Report) verifyResult {
	r := verifyResult{
		Entries: report.Entries, Sessions: report.Sessions, Closed: report.Closed, Unknown: report.Unknown, Foreign: report.Foreign,
		Last: report.Last, LastDigest: report.LastDigest, Findings: []verifyFinding{}, Omitted: report.Omitted,
	}
	if v.sealed != nil {
		v.sealed.complete(&r)
	}
	if v.whole && r.Last > 0 {
		r.Anchor = ledger.Anchor{Sequence: r.Last, Digest: r.LastDigest}.String()
	}
	for _, f := range report.Findings {
		r.Findings = append(r.Findings, verifyFinding{"ledger", f.Session, f.Sequence, f.Text})
	}
	if v.nodes != nil {
		r.Node = &verifiedNode{v.nodes.Read, v.nodes.Undisclosed}
		for _, f := range v.nodes.Findings {
			r.Findings = append(r.Findings, verifyFinding{f.Kind, f.Session, f.Sequence, f.Text})
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b verifyFinding) int { return cmp.Compare(a.Sequence, b.Sequence) })
	r.OK = len(r.Findings) == 0
	return r
}

func (v *verification) print(r verifyResult) error {
	if err := v.program.Print(r, r.text()); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("the ledger does not verify: %d findings; see \"the ledger does not verify\" in deploy/RUNBOOK.md", uint64(len(r.Findings))+r.Omitted)
	}
	return nil
}

// text lists the sessions with findings, then the totals.
func (r verifyResult) text() string {
	var b strings.Builder
	bySession := map[settlement.SessionID][]verifyFinding{}
	var order []settlement.SessionID
	for _, f := range r.Findings {
		if bySession[f.Session] == nil {
			order = append(order, f.Session)
		}
		bySession[f.Session] = append(bySession[f.Session], f)
	}
	for _, id := range order {
		name := "session " + id.Token()
		if id == "" {
			name = "the ledger itself, or entries of no session"
		}
		if bySession[id][0].Kind == manifestKind {
			name = "the manifest"
		}
		fmt.Fprintf(&b, "DOES NOT VERIFY: %s\n", name)
		for _, f := range bySession[id] {
			fmt.Fprintf(&b, "    %s\n", terminal.Printable(f.text()))
		}
	}
	if r.Manifest != nil {
		b.WriteString(r.Manifest.text())
	}
	fmt.Fprintf(&b, "%d entries of %d sessions, %d closed", r.Entries, r.Sessions, r.Closed)
	if r.Unknown > 0 {
		fmt.Fprintf(&b, ", and %d with an unknown session", r.Unknown)
	}
	if r.Foreign > 0 {
		fmt.Fprintf(&b, "; %d messages are not entries of this ledger and have no effect", r.Foreign)
	}
	switch len(order) {
	case 0:
		b.WriteString(": no discrepancies.")
	default:
		fmt.Fprintf(&b, "; %d findings.", len(r.Findings))
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "\n%d more findings are not listed.", r.Omitted)
	}
	switch {
	case r.Node == nil:
		b.WriteString("\nNot compared with the node.")
	default:
		fmt.Fprintf(&b, "\n%d sessions compared with the node", r.Node.Compared)
		if r.Node.NotComparable > 0 {
			fmt.Fprintf(&b, ", %d of them only checked to be closed: it doesn't show what it paid", r.Node.NotComparable)
		}
		b.WriteString(".")
	}
	if r.Anchor != "" {
		fmt.Fprintf(&b, "\nAnchor: %s", r.Anchor)
	}
	return b.String()
}
