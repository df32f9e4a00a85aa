package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
)

// sealFlags are the flags of `settled ledger seal`.
type sealFlags struct {
	manifest string
	size     uint64
	signKey  string
	signers  []string
}

func (p *program) ledgerSealCommand() *cobra.Command {
	var f sealFlags
	c := &cobra.Command{
		Use: "seal --manifest FILE", Short: "Record the digests of the ledger's complete segments", Args: cobra.NoArgs,
		Long: `Verifies the entries that follow the last sealed segment as settled ledger verify --no-node does, and adds to the
manifest a line for each segment that they complete: a range of 65,536 entries with a digest over all of them and a
Merkle root. Sealed segments are never changed. If anything is wrong, nothing is sealed, and it exits 1.

Keep the manifest where those who may write to NATS can't change it, or have it signed: --sign-key FILE.
settled ledger verify --manifest FILE then reads only what follows the sealed segments, and a sample of them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.manifest == "" {
				return terminal.UsageError(errors.New("--manifest is missing: name the file of the sealed segments; the first run creates it"))
			}
			return p.ledgerSeal(cmd, f)
		},
	}
	c.Flags().StringVar(&f.manifest, "manifest", "", "file of the sealed segments")
	c.Flags().Uint64Var(&f.size, "segment", ledger.SegmentEntries, "entries of a segment, when the manifest is created")
	c.Flags().StringVar(&f.signKey, "sign-key", "", "key file to sign the segments with, hex or keystore with clearnode.password_file")
	c.Flags().StringSliceVar(&f.signers, "signer", nil, "address that must have signed the segments so far; one of several")
	return c
}

// sealResult is what `settled ledger seal` prints as JSON.
type sealResult struct {
	OK          bool                   `json:"ok"`
	Manifest    string                 `json:"manifest"`
	Sealed      []ledger.SealedSegment `json:"sealed"`          // by this run
	SealedUntil uint64                 `json:"sealed_until"`    // sequence of the last sealed entry
	NotSealed   uint64                 `json:"not_sealed"`      // entries after it
	Size        uint64                 `json:"segment_entries"` // of a segment
	Findings    []verifyFinding        `json:"findings"`
}

func (p *program) ledgerSeal(cmd *cobra.Command, f sealFlags) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	var signer clearnode.Signer
	if f.signKey != "" {
		if signer, err = clearnode.LoadKeyFile(f.signKey, cfg.NodePasswordFile); err != nil {
			return fmt.Errorf("--sign-key: %w", err)
		}
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
	s, before, err := openToSeal(f, info)
	if err != nil {
		return err
	}
	r := sealResult{Manifest: f.manifest, Sealed: []ledger.SealedSegment{}, Size: f.size, Findings: []verifyFinding{}}
	if s.wrong != "" {
		r.Findings = append(r.Findings, verifyFinding{Kind: manifestKind, Problem: s.wrong})
		return p.printSeal(r)
	}
	segments := len(s.manifest.Segments)
	r.SealedUntil, r.Size = s.manifest.Sealed(), s.manifest.Size
	boundHeap()
	bar := p.Progress("seal")
	defer bar.Clear()
	report, err := s.seal(cmd.Context(), l, signer, bar)
	if err != nil {
		return err
	}
	bar.Clear()
	for _, found := range append(s.findings, report.Findings...) {
		r.Findings = append(r.Findings, verifyFinding{"ledger", found.Session, found.Sequence, found.Text})
	}
	if len(r.Findings) == 0 && len(s.manifest.Segments) > segments {
		if err := audit.WriteManifest(f.manifest, before, s.manifest); err != nil {
			return err
		}
		r.Sealed, r.SealedUntil = s.manifest.Segments[segments:], s.manifest.Sealed()
	}
	r.NotSealed = report.Last - min(r.SealedUntil, report.Last)
	return p.printSeal(r)
}

// openToSeal reads the manifest, or begins one. before is the text of the file.
func openToSeal(f sealFlags, info *jetstream.StreamInfo) (s *sealedAudit, before []byte, err error) {
	s, err = openSealed(verifyFlags{manifest: f.manifest, signers: f.signers}, info)
	switch {
	case err == nil && s.wrong == "":
		return s, s.manifest.Text(), nil
	case !errors.Is(err, fs.ErrNotExist):
		return s, nil, err
	}
	m, err := ledger.NewManifest(info.Config.Name, info.Created, f.size)
	if err != nil {
		return nil, nil, terminal.UsageError(fmt.Errorf("--segment: %w", err))
	}
	return &sealedAudit{manifest: m, info: info, last: info.State.LastSeq}, nil, nil
}

// seal verifies what follows the sealed segments, and adds the complete segments to the
// manifest in memory.
func (s *sealedAudit) seal(ctx context.Context, l *ledger.Ledger, signer clearnode.Signer, bar *terminal.Progress) (ledger.Report, error) {
	sealed := s.manifest.Sealed()
	found, err := audit.CheckSealedEnd(ctx, l, s.manifest)
	if err != nil {
		return ledger.Report{}, err
	}
	s.findings = append(found, audit.MissingSealed(s.manifest, s.info, s.last-min(sealed, s.last))...)
	sealer := ledger.NewSealer(s.manifest, func(segment *ledger.SealedSegment) error { return audit.SignSegment(ctx, signer, segment) })
	return l.Verify(ctx, ledger.Audit{
		VerifyFunc: clearnode.VerifyAnswer, After: sealed,
		MessageFunc:  func(m ledger.Message, _ *ledger.Report) error { return sealer.Add(m) },
		ProgressFunc: func(r ledger.Report) { bar.Update(r.Last, s.last, fmt.Sprintf("%d findings", len(r.Findings))) },
	})
}

func (p *program) printSeal(r sealResult) error {
	r.OK = len(r.Findings) == 0
	if err := p.Print(r, r.text()); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("nothing was sealed: %d findings; see \"the ledger does not verify\" in deploy/RUNBOOK.md", len(r.Findings))
	}
	return nil
}

func (r sealResult) text() string {
	text := ""
	for _, f := range r.Findings {
		text += terminal.Printable(f.text()) + "\n"
	}
	for _, s := range r.Sealed {
		text += fmt.Sprintf("Sealed segment %d: entries %d to %d, %s\n", s.Number, s.First, s.Last, s.Digest)
	}
	return text + fmt.Sprintf("%s: sealed up to entry %d; %d entries follow, and %d complete a segment.", r.Manifest, r.SealedUntil, r.NotSealed, r.Size)
}

// manifestKind is the kind of a finding about the manifest itself.
const manifestKind = "manifest"

// sealedAudit compares the ledger with its manifest in a run of `settled ledger verify`.
type sealedAudit struct {
	manifest *ledger.Manifest
	wrong    string // why the manifest can't be used; empty: it can
	last     uint64 // sequence of the ledger's last entry
	info     *jetstream.StreamInfo
	sampleOf int
	checker  *ledger.SegmentChecker // of --full; nil: without
	result   verifiedManifest
	findings []ledger.Finding
}

// verifiedManifest is what was compared with the manifest.
type verifiedManifest struct {
	File           string   `json:"file"`
	Segments       int      `json:"segments"`
	SealedUntil    uint64   `json:"sealed_until"`   // sequence of the last sealed entry
	SignedBy       []string `json:"signed_by"`      // empty: it is not signed
	SignerChecked  bool     `json:"signer_checked"` // against --signer
	Full           bool     `json:"full"`
	Sampled        []uint64 `json:"sampled_segments"`
	SealedRead     uint64   `json:"sealed_entries_read"`
	SealedNotRead  uint64   `json:"sealed_entries_not_read"`
	ReadAfterThose uint64   `json:"entries_read_after"`
}

// boundHeap has the garbage collector run when the heap has grown by half instead of by all of
// itself: what a verification remembers of sessions is bounded, and so is its memory.
func boundHeap() { debug.SetGCPercent(50) }

// openSealed reads a manifest, and checks all that can be checked without the ledger's entries.
func openSealed(f verifyFlags, info *jetstream.StreamInfo) (*sealedAudit, error) {
	if f.sample < 0 {
		return nil, terminal.UsageError(fmt.Errorf("--sample %d: want 0 or more", f.sample))
	}
	wanted, err := audit.ParseAddresses("--signer", f.signers)
	if err != nil {
		return nil, err
	}
	s := &sealedAudit{info: info, last: info.State.LastSeq, sampleOf: f.sample}
	s.result = verifiedManifest{File: f.manifest, SignedBy: []string{}, Sampled: []uint64{}, Full: f.full, SignerChecked: len(wanted) > 0}
	s.manifest, err = audit.ReadManifest(f.manifest)
	switch {
	case errors.Is(err, ledger.ErrManifest):
		s.wrong = err.Error()
		return s, nil
	case err != nil:
		return nil, err
	}
	s.result.Segments, s.result.SealedUntil = len(s.manifest.Segments), s.manifest.Sealed()
	signers, wrong := audit.CheckSigners(s.manifest, wanted)
	s.result.SignedBy = append(s.result.SignedBy, signers...)
	if s.wrong = wrong; wrong == "" {
		s.wrong = audit.CheckLineage(s.manifest, info)
	}
	return s, nil
}

// unusable is the result of a run whose manifest can't be used: the ledger was not read.
func (s *sealedAudit) unusable() verifyResult {
	s.result.SealedNotRead = min(s.result.SealedUntil, s.last)
	r := verifyResult{Findings: []verifyFinding{{Kind: manifestKind, Problem: s.wrong + "; the ledger was not read: run the command without --manifest to verify all of it"}}}
	r.Manifest = &s.result
	return r
}

// prepare limits an audit to what follows the sealed segments, or has it compare those.
func (s *sealedAudit) prepare(a *ledger.Audit) {
	if !s.result.Full {
		a.After = s.manifest.Sealed()
		return
	}
	s.checker = ledger.NewSegmentChecker(s.manifest)
	a.MessageFunc = func(m ledger.Message, _ *ledger.Report) error {
		s.findings = append(s.findings, s.checker.Add(m)...)
		return nil
	}
}

// compare compares, after the audit, the sealed segments with the manifest.
func (s *sealedAudit) compare(ctx context.Context, l *ledger.Ledger, report ledger.Report, bar *terminal.Progress) error {
	sealed := min(s.manifest.Sealed(), s.last)
	if s.checker != nil {
		s.findings = append(s.findings, s.checker.End()...)
		s.result.SealedRead, s.result.ReadAfterThose = sealed, report.Entries-min(sealed, report.Entries)
		return nil
	}
	s.result.ReadAfterThose = report.Entries
	found, err := audit.CheckSealedEnd(ctx, l, s.manifest)
	if err != nil {
		return err
	}
	s.findings = append(append(s.findings, found...), audit.MissingSealed(s.manifest, s.info, s.last-sealed)...)
	drawn := audit.SampleSegments(s.manifest, s.sampleOf)
	whole := uint64(len(drawn)) * s.manifest.Size
	for _, segment := range drawn {
		before := s.result.SealedRead
		found, err := l.CheckSegment(ctx, segment.Segment, func(sequence uint64) {
			bar.Update(before+sequence-segment.First+1, whole, "of sealed segments")
		})
		if err != nil {
			return err
		}
		s.findings = append(s.findings, found...)
		s.result.Sampled = append(s.result.Sampled, segment.Number)
		s.result.SealedRead += s.manifest.Size
	}
	s.result.SealedNotRead = sealed - min(s.result.SealedRead, sealed)
	return nil
}

// complete adds to the result of a run what was compared with the manifest.
func (s *sealedAudit) complete(r *verifyResult) {
	for _, f := range s.findings {
		r.Findings = append(r.Findings, verifyFinding{"ledger", f.Session, f.Sequence, f.Text})
	}
	r.Manifest = &s.result
	if r.Entries > 0 || len(s.manifest.Segments) == 0 {
		return
	}
	r.Last, r.LastDigest = 0, ""
	if len(s.findings) == 0 { // nothing follows the sealed entries
		end := s.manifest.Segments[len(s.manifest.Segments)-1]
		r.Last, r.LastDigest = end.Last, end.LastDigest
	}
}

func (m *verifiedManifest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Manifest %s: %d sealed segments, entries 1 to %d, ", m.File, m.Segments, m.SealedUntil)
	switch {
	case len(m.SignedBy) == 0:
		b.WriteString("not signed: whoever can write the file can change it.\n")
	case m.SignerChecked:
		fmt.Fprintf(&b, "signed by %s.\n", strings.Join(m.SignedBy, " and "))
	default:
		fmt.Fprintf(&b, "signed by %s (--signer checks that it is the right one).\n", strings.Join(m.SignedBy, " and "))
	}
	fmt.Fprintf(&b, "Read: %d entries after the sealed ones, and %d sealed entries", m.ReadAfterThose, m.SealedRead)
	if len(m.Sampled) > 0 {
		fmt.Fprintf(&b, " (segments %s)", strings.Trim(strings.ReplaceAll(fmt.Sprint(m.Sampled), " ", ", "), "[]"))
	}
	fmt.Fprintf(&b, ". Not read: %d sealed entries.\n", m.SealedNotRead)
	if !m.Full {
		b.WriteString("After the sealed entries: ")
	}
	return b.String()
}
