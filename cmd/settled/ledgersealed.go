package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
)

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
