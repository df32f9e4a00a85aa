package ledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
)

// seal returns the manifest of a ledger in memory, of segments of that size.
func seal(t *testing.T, mem *ledgertest.Stream, size uint64) *ledger.Manifest {
	t.Helper()
	m := natstest.Must(ledger.NewManifest("SETTLEMENTS", time.Unix(1_700_000_000, 5), size))
	sealer := ledger.NewSealer(m, func(s *ledger.SealedSegment) error {
		s.SealedAt, s.Signer, s.Signature = time.Unix(1_700_000_100, 0).UTC(), "0xcc", "0x12"
		return nil
	})
	r := natstest.Must(ledger.New(mem, config()).Verify(t.Context(), ledger.Audit{MessageFunc: func(m ledger.Message, _ *ledger.Report) error { return sealer.Add(m) }}))
	if len(r.Findings) > 0 {
		t.Fatal(r.Findings)
	}
	return natstest.Must(ledger.ParseManifest(m.Text()))
}

// merkleRoot is the definition of RFC 6962.
func merkleRoot(leaves [][32]byte) [32]byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	split := 1
	for 2*split < len(leaves) {
		split *= 2
	}
	left, right := merkleRoot(leaves[:split]), merkleRoot(leaves[split:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// TestSegmentDigests computes the digests as MANIFEST.md describes them.
func TestSegmentDigests(t *testing.T) {
	mem := good(t)
	messages := mem.Messages()
	for size := uint64(1); size <= 13; size++ {
		m := seal(t, mem, size)
		if len(m.Segments) != 13/int(size) || m.Sealed() != 13/size*size {
			t.Fatalf("%d segments of %d entries", len(m.Segments), size)
		}
		lines := strings.Split(string(m.Text()), "\n")
		for i, s := range m.Segments {
			chain := sha256.Sum256([]byte(lines[i]))
			if s.Previous != hex.EncodeToString(chain[:]) {
				t.Errorf("segment %d: previous %s", s.Number, s.Previous)
			}
			var leaves [][32]byte
			for _, m := range messages[s.First-1 : s.Last] {
				text := []byte{0, 0, 0, 0, 0, 0, 0, 0, byte(m.Sequence), 0, 0, 0, byte(len(m.Subject))}
				leaf := sha256.Sum256(append(append(text, m.Subject...), m.Payload...))
				leaves = append(leaves, leaf)
				chain = sha256.Sum256(append(append([]byte{2}, chain[:]...), leaf[:]...))
			}
			root := merkleRoot(leaves)
			if s.Digest != hex.EncodeToString(chain[:]) || s.MerkleRoot != hex.EncodeToString(root[:]) || s.LastDigest != ledger.Digest(messages[s.Last-1].Payload) {
				t.Errorf("of size %d: %+v", size, s)
			}
		}
	}
}

// TestSegmentsOfAnotherLedger: every change of a sealed entry is found by reading its
// segment, and by reading the whole ledger, and in no other segment.
func TestSegmentsOfAnotherLedger(t *testing.T) {
	for it, c := range map[string]struct {
		change func(*ledgertest.Stream)
		wrong  []uint64 // segments
		want   string
	}{
		"as it was": {func(*ledgertest.Stream) {}, nil, ""},
		"longer":    {func(m *ledgertest.Stream) { m.Put("settlement.failed.unknown", []byte("{}")) }, nil, ""},
		"flipped":   {func(m *ledgertest.Stream) { alter(t, m, 6, `"deadletter":9`, `"deadletter":8`) }, []uint64{2}, "is not what was sealed"},
		"removed":   {func(m *ledgertest.Stream) { m.Remove(5) }, []uint64{2}, "entry 5 is missing"},
		"first":     {func(m *ledgertest.Stream) { m.Remove(1) }, []uint64{1}, "entry 1 is missing"},
		"last":      {func(m *ledgertest.Stream) { m.Remove(8) }, []uint64{2}, "entry 8 is missing"},
		"many":      {func(m *ledgertest.Stream) { m.Remove(4); m.Remove(5) }, []uint64{1, 2}, "is missing"},
		"cut":       {func(m *ledgertest.Stream) { m.Rewind(6) }, []uint64{2, 3}, ""},
	} {
		t.Run(it, func(t *testing.T) {
			mem := good(t)
			if it == "flipped" {
				alter(t, mem, 6, `"dead_letter":9`, `"deadletter":9`) // an unknown member
			}
			m := natstest.Must(ledger.NewManifest("SETTLEMENTS", time.Unix(0, 0), 4))
			sealer := ledger.NewSealer(m, func(*ledger.SealedSegment) error { return nil })
			for _, one := range mem.Messages() {
				natstest.OK(t, sealer.Add(one))
			}
			c.change(mem)
			l := ledger.New(mem, config())
			var wrong []uint64
			for _, s := range m.Segments {
				found := natstest.Must(l.CheckSegment(t.Context(), s.Segment, nil))
				if len(found) > 0 {
					wrong = append(wrong, s.Number)
					if !strings.Contains(found[0].Text, c.want) {
						t.Errorf("%s", found[0].Text)
					}
				}
			}
			if len(wrong) != len(c.wrong) || len(wrong) > 0 && wrong[0] != c.wrong[0] {
				t.Errorf("segments %v differ, want %v", wrong, c.wrong)
			}
			checker, findings := ledger.NewSegmentChecker(m), 0
			for _, one := range mem.Messages() {
				findings += len(checker.Add(one))
			}
			if findings += len(checker.End()); (findings > 0) != (len(c.wrong) > 0) || findings > len(c.wrong) {
				t.Errorf("%d findings in passing", findings)
			}
		})
	}
}

// TestManifestIsChecked: whatever byte of a manifest is changed, it is refused, but for
// the values of its last line, which only the signature protects.
func TestManifestIsChecked(t *testing.T) {
	m := seal(t, good(t), 4)
	text := m.Text()
	last := strings.LastIndexByte(strings.TrimSuffix(string(text), "\n"), '\n')
	signed := natstest.Must(m.Segments[2].SignedText())
	for i := range text {
		for _, b := range []byte{text[i] ^ 1, ' ', '"', '\n'} {
			if b == text[i] {
				continue
			}
			edited := append([]byte{}, text...)
			edited[i] = b
			got, err := ledger.ParseManifest(edited)
			switch {
			case err != nil:
			case i <= last:
				t.Fatalf("byte %d changed to %q: %s", i, b, edited)
			case string(natstest.Must(got.Segments[2].SignedText())) == string(signed) && got.Segments[2].Signature == m.Segments[2].Signature:
				t.Fatalf("byte %d changed to %q, and the signed text is the same", i, b)
			}
		}
	}
	for cut := range text {
		if got, err := ledger.ParseManifest(text[:cut]); err == nil && text[cut-1] != '\n' || err == nil && got.Sealed() > m.Sealed() {
			t.Errorf("cut after %d bytes", cut)
		}
	}
	other := strings.Replace(string(text), "settled-manifest/1", "settled-manifest/2", 1)
	if _, err := ledger.ParseManifest([]byte(other)); err == nil || errors.Is(err, ledger.ErrManifest) || !strings.Contains(err.Error(), "settled-manifest/2") {
		t.Errorf("another version: %v", err)
	}
	if _, err := ledger.NewManifest("S", time.Now(), 0); err == nil {
		t.Error("segments without entries")
	}
	if err := m.Add(m.Segments[0]); err == nil {
		t.Error("a segment twice")
	}
}
