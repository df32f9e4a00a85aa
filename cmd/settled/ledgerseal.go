package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

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
