package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/ledger"
	"settled/settlement"
)

// ReadManifest reads a manifest of sealed segments. Errors: fs.ErrNotExist,
// ledger.ErrManifest.
func ReadManifest(path string) (*ledger.Manifest, error) {
	text, err := os.ReadFile(path) // #nosec G304 -- named by the operator
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: `settled ledger seal` writes it", err)
	}
	if err != nil {
		return nil, err
	}
	m, err := ledger.ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	return m, nil
}

// WriteManifest replaces a manifest that had the text before by one that continues it. A
// reader finds the old file or the new one.
func WriteManifest(path string, before []byte, m *ledger.Manifest) error {
	if is, err := os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // #nosec G304 -- named by the operator
		return err
	} else if !bytes.Equal(is, before) || !bytes.HasPrefix(m.Text(), before) {
		return fmt.Errorf("manifest %s: it changed meanwhile, and nothing was written: run the command again", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(m.Text())
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()) // #nosec G302 -- it holds no secret
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// SignSegment completes a segment with the time and, if there is a signer, its signature.
func SignSegment(ctx context.Context, signer clearnode.Signer, s *ledger.SealedSegment) error {
	s.SealedAt = time.Now().UTC().Truncate(time.Second)
	if signer == nil {
		return nil
	}
	s.Signer = signer.Address().String()
	text, err := s.SignedText()
	if err != nil {
		return err
	}
	s.Signature, err = clearnode.SignMessage(ctx, signer, text)
	return err
}

// CheckSigners checks the signatures of a manifest, and that each is one of wanted, unless
// that is empty. It returns who signed it, and what is wrong with it.
func CheckSigners(m *ledger.Manifest, wanted []settlement.Address) (signers []string, wrong string) {
	unsigned := 0
	for _, s := range m.Segments {
		if s.Signature == "" && s.Signer == "" {
			if unsigned++; len(wanted) > 0 {
				return signers, fmt.Sprintf("segment %d is not signed, and --signer names who must have signed it", s.Number)
			}
			continue
		}
		text, err := s.SignedText()
		if err != nil {
			return signers, err.Error()
		}
		signer, err := clearnode.MessageSigner(text, s.Signature)
		switch {
		case err != nil:
			return signers, fmt.Sprintf("segment %d: its signature can't be read: %s", s.Number, err)
		case signer.String() != s.Signer:
			return signers, fmt.Sprintf("segment %d: its signature is not one of %s over this line: the line was changed after it was signed", s.Number, s.Signer)
		case len(wanted) > 0 && !slices.Contains(wanted, signer):
			return signers, fmt.Sprintf("segment %d is signed by %s, whom --signer does not name", s.Number, signer)
		}
		if !slices.Contains(signers, s.Signer) {
			signers = append(signers, s.Signer)
		}
	}
	if unsigned > 0 && len(signers) > 0 {
		return signers, fmt.Sprintf("%d of its segments are not signed, and others are", unsigned)
	}
	return signers, ""
}

// CheckLineage returns why a manifest is not of this stream; empty: it is.
func CheckLineage(m *ledger.Manifest, info *jetstream.StreamInfo) string {
	switch {
	case m.Stream != info.Config.Name:
		return fmt.Sprintf("it is of the stream %s, and the ledger is the stream %s", m.Stream, info.Config.Name)
	case !m.Created.Equal(info.Created):
		return fmt.Sprintf("it is of a stream that was created at %s, and the stream %s was created at %s: the manifest is of another ledger, or the ledger was deleted and created again",
			m.Created.Format(time.RFC3339Nano), m.Stream, info.Created.UTC().Format(time.RFC3339Nano))
	}
	return ""
}

// CheckSealedEnd compares the last sealed entry with the ledger.
func CheckSealedEnd(ctx context.Context, l *ledger.Ledger, m *ledger.Manifest) ([]ledger.Finding, error) {
	if len(m.Segments) == 0 {
		return nil, nil
	}
	found, err := l.CheckAnchor(ctx, m.Segments[len(m.Segments)-1].Anchor())
	for i := range found {
		found[i].Text = "by the manifest's last sealed entry: " + strings.ReplaceAll(found[i].Text, "by the anchor", "by the manifest")
	}
	return found, err
}

// MissingSealed returns the finding that sealed entries are missing, by the number of
// messages in the stream: it has that many of those after the sealed ones.
func MissingSealed(m *ledger.Manifest, info *jetstream.StreamInfo, later uint64) []ledger.Finding {
	sealed := min(m.Sealed(), info.State.LastSeq)
	if info.State.Msgs >= sealed+later {
		return nil
	}
	return []ledger.Finding{{Sequence: sealed, Text: fmt.Sprintf("%d of the sealed entries are missing from the stream: `settled ledger verify --full` says which", sealed+later-info.State.Msgs)}}
}

// SampleSegments returns that many segments, chosen at random, in order.
func SampleSegments(m *ledger.Manifest, n int) (drawn []ledger.SealedSegment) {
	chosen := rand.Perm(len(m.Segments)) // #nosec G404 -- seeded by the system
	chosen = chosen[:min(n, len(chosen))]
	slices.Sort(chosen)
	for _, i := range chosen {
		drawn = append(drawn, m.Segments[i])
	}
	return drawn
}
