package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// Segment is a range of the ledger's sequences with the digests by which it can be
// recognised. MANIFEST.md describes them.
type Segment struct {
	Number     uint64 `json:"segment"` // from 1
	First      uint64 `json:"first"`
	Last       uint64 `json:"last"`
	Closing    uint64 `json:"closing"` // entries by state
	Closed     uint64 `json:"closed"`
	Failed     uint64 `json:"failed"`
	Previous   string `json:"previous"`    // SHA-256 of the manifest's line before
	Digest     string `json:"digest"`      // chains the entries in their order
	MerkleRoot string `json:"merkle_root"` // over the entries, as in RFC 6962
	LastDigest string `json:"last_digest"` // SHA-256 of the last entry's payload
}

// Anchor returns the anchor of the segment's last entry.
func (s Segment) Anchor() Anchor { return Anchor{s.Last, s.LastDigest} }

// segmentHash computes a Segment from its messages.
type segmentHash struct {
	Segment
	next  uint64 // sequence
	chain hash
	tree  merkleTree
}

// newSegmentHash begins a segment. previous is the hash of the manifest's line before.
func newSegmentHash(number, first, last uint64, previous string) *segmentHash {
	h := &segmentHash{Segment: Segment{Number: number, First: first, Last: last, Previous: previous}, next: first}
	_, _ = hex.Decode(h.chain[:], []byte(previous)) // ParseManifest checked it
	return h
}

// add adds the next message, and reports whether it was the segment's last one. The
// messages before it must have been added.
func (h *segmentHash) add(m Message) (complete bool) {
	if m.Sequence != h.next {
		return false // something is missing, so that the segment never becomes complete
	}
	h.next++
	leaf := leafHash(m)
	h.chain = sha256.Sum256(append(append([]byte{chainPrefix}, h.chain[:]...), leaf[:]...))
	h.tree.add(leaf)
	switch _, state, _, _ := splitSubject(m.Subject); state {
	case settlement.EntryClosing:
		h.Closing++
	case settlement.EntryClosed:
		h.Closed++
	default:
		h.Failed++
	}
	if m.Sequence < h.Last {
		return false
	}
	h.Digest, h.LastDigest = hex.EncodeToString(h.chain[:]), digest(m.Payload)
	root := h.tree.root()
	h.MerkleRoot = hex.EncodeToString(root[:])
	return true
}

// The prefixes keep hashes of different kinds apart, as in RFC 6962.
const (
	leafPrefix  = 0
	nodePrefix  = 1
	chainPrefix = 2
)

// leafHash is the hash of a message: of its sequence, its subject and its payload.
func leafHash(m Message) hash {
	h := sha256.New()
	head := append([]byte{leafPrefix}, make([]byte, 12)...)
	binary.BigEndian.PutUint64(head[1:], m.Sequence)
	binary.BigEndian.PutUint32(head[9:], uint32(len(m.Subject))) // #nosec G115 -- the server bounds it
	h.Write(head)
	h.Write([]byte(m.Subject))
	h.Write(m.Payload)
	return hash(h.Sum(nil))
}

// merkleTree computes the root of a Merkle tree over any number of leaves.
type merkleTree struct {
	leaves   uint64
	subtrees []hash // roots of the complete subtrees, by falling size
}

func (t *merkleTree) add(leaf hash) {
	t.subtrees = append(t.subtrees, leaf)
	t.leaves++
	for range bits.TrailingZeros64(t.leaves) {
		t.join()
	}
}

// join replaces the last two subtrees with the one above them.
func (t *merkleTree) join() {
	n := len(t.subtrees)
	left, right := t.subtrees[n-2], t.subtrees[n-1]
	t.subtrees = append(t.subtrees[:n-2], sha256.Sum256(append(append([]byte{nodePrefix}, left[:]...), right[:]...)))
}

func (t *merkleTree) root() hash {
	for len(t.subtrees) > 1 {
		t.join()
	}
	return t.subtrees[0]
}

// CheckSegment reads the messages of a sealed segment, and returns what is wrong with them.
// progress, if not nil, is called with the sequence of each.
func (l *Ledger) CheckSegment(ctx context.Context, s Segment, progress func(sequence uint64)) ([]Finding, error) {
	h, complete := newSegmentHash(s.Number, s.First, s.Last, s.Previous), false
	decode := func(_ context.Context, m *jetstream.RawStreamMsg) (Message, error) { return messageOf(m), nil }
	end, err := l.lastSequence(ctx)
	if err == nil && end >= s.First {
		err = walk(ctx, l, s.First, min(end, s.Last), decode, func(m Message) error {
			complete = h.add(m)
			if progress != nil {
				progress(m.Sequence)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: segment %d: %w", s.Number, err)
	}
	return h.compare(s, complete), nil
}

// compare returns what differs from the segment as it was sealed.
func (h *segmentHash) compare(sealed Segment, complete bool) []Finding {
	switch {
	case !complete:
		return []Finding{{"", h.next, fmt.Sprintf("sealed segment %d (entries %d to %d) is not complete: entry %d is missing from the stream", sealed.Number, sealed.First, sealed.Last, h.next)}}
	case h.Segment != sealed:
		return []Finding{{"", sealed.Last, fmt.Sprintf("sealed segment %d (entries %d to %d) is not what was sealed: its entries give the digest %s, and the manifest has %s", sealed.Number, sealed.First, sealed.Last, h.Digest, sealed.Digest)}}
	}
	return nil
}

// Sealer adds segments to a manifest while the ledger is read, in order, from the first
// entry after the sealed ones.
type Sealer struct {
	manifest *Manifest
	signFunc func(*SealedSegment) error
	current  *segmentHash
}

// NewSealer returns a Sealer. signFunc completes each segment before it is added.
func NewSealer(m *Manifest, signFunc func(*SealedSegment) error) *Sealer {
	return &Sealer{manifest: m, signFunc: signFunc}
}

// Add adds a message, and with the last one of a segment the segment.
func (s *Sealer) Add(m Message) error {
	if s.current == nil {
		first := s.manifest.Sealed() + 1
		s.current = newSegmentHash(uint64(len(s.manifest.Segments))+1, first, first+s.manifest.Size-1, s.manifest.Previous())
	}
	if !s.current.add(m) {
		return nil
	}
	sealed := SealedSegment{Segment: s.current.Segment}
	s.current = nil
	if err := s.signFunc(&sealed); err != nil {
		return err
	}
	return s.manifest.Add(sealed)
}

// SegmentChecker compares a ledger with its manifest while it is read, in order, from its
// first entry on.
type SegmentChecker struct {
	segments []SealedSegment // those not compared yet
	current  *segmentHash    // of the first of them; nil: none of its messages was met
}

// NewSegmentChecker returns a SegmentChecker.
func NewSegmentChecker(m *Manifest) *SegmentChecker { return &SegmentChecker{segments: m.Segments} }

// Add adds the ledger's next message, and returns what differs from the manifest.
func (c *SegmentChecker) Add(m Message) (found []Finding) {
	for len(c.segments) > 0 {
		sealed := c.segments[0].Segment
		if c.current == nil {
			c.current = newSegmentHash(sealed.Number, sealed.First, sealed.Last, sealed.Previous)
		}
		complete := c.current.add(m)
		if !complete && m.Sequence < sealed.Last {
			break
		}
		found = append(found, c.current.compare(sealed, complete)...)
		c.segments, c.current = c.segments[1:], nil
		if m.Sequence == sealed.Last {
			break
		}
	}
	return found
}

// End returns what is wrong with the segments that were not complete when the ledger ended.
func (c *SegmentChecker) End() []Finding {
	if len(c.segments) == 0 {
		return nil
	}
	first, last := c.segments[0], c.segments[len(c.segments)-1]
	return []Finding{{"", first.First, fmt.Sprintf("the ledger ends before entry %d, which is sealed: segments %d to %d are not complete: its tail was removed", last.Last, first.Number, last.Number)}}
}
