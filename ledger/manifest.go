package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

const (
	// manifestFormat is the version of the format.
	manifestFormat = "settled-manifest/1"
	// SegmentEntries is the default number of entries of a segment.
	SegmentEntries = 1 << 16
	// maxSegmentEntries bounds it.
	maxSegmentEntries = 1 << 24
)

// Manifest lists the sealed segments of a ledger, from its first entry on. MANIFEST.md
// describes the file.
type Manifest struct {
	ManifestHeader
	Segments []SealedSegment
	text     []byte // of the file
}

// ManifestHeader is the first line of a manifest: which ledger it is of.
type ManifestHeader struct {
	Format  string    `json:"format"`
	Stream  string    `json:"stream"`
	Created time.Time `json:"created"`         // the stream
	Size    uint64    `json:"segment_entries"` // of each segment
}

// SealedSegment is a line of a manifest.
type SealedSegment struct {
	Segment
	SealedAt  time.Time `json:"sealed_at"`
	Signer    string    `json:"signer,omitempty"`    // address
	Signature string    `json:"signature,omitempty"` // of SignedText
}

// signedSegment begins the signed text, so that the signature is valid for nothing else.
const signedSegment = "settled ledger segment\n"

// SignedText returns what the signature of a segment is made over: "settled ledger segment",
// a line feed, and the line without its signature in RFC 8785 form.
func (s SealedSegment) SignedText() ([]byte, error) {
	s.Signature = ""
	text, err := json.Marshal(s)
	if err == nil {
		text, err = settlement.Canonical(text)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: segment %d: %w", s.Number, err)
	}
	return append([]byte(signedSegment), text...), nil
}

// NewManifest returns a manifest without segments, of segments with that number of entries.
func NewManifest(stream string, created time.Time, size uint64) (*Manifest, error) {
	if size == 0 || size > maxSegmentEntries {
		return nil, fmt.Errorf("segments of %d entries: want 1 to %d", size, maxSegmentEntries)
	}
	header := ManifestHeader{manifestFormat, stream, created.UTC(), size}
	line, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("ledger: manifest: %w", err)
	}
	return &Manifest{ManifestHeader: header, text: append(line, '\n')}, nil
}

// ErrManifest is returned for a manifest that is not what was written.
var ErrManifest = errors.New("the manifest was edited or damaged")

// ParseManifest reads a manifest, and checks that each line continues the one before it. It
// does not check signatures. Errors: ErrManifest.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{text: text}
	previous := ""
	for number, rest := 0, text; len(rest) > 0; number++ {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return nil, fmt.Errorf("%w: line %d does not end with a line feed", ErrManifest, number+1)
		}
		var err error
		if number == 0 {
			err = m.parseHeader(line)
		} else {
			err = m.parseSegment(line, previous)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
		previous, rest = digest(line), more
	}
	if m.Format == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrManifest)
	}
	return m, nil
}

func (m *Manifest) parseHeader(line []byte) error {
	if err := json.Unmarshal(line, &m.ManifestHeader); err == nil && m.Format != "" && m.Format != manifestFormat {
		return fmt.Errorf("a manifest of format %.80q, and this version of settled reads %q", m.Format, manifestFormat)
	}
	if err := decodeLine(line, &m.ManifestHeader); err != nil {
		return err
	}
	if m.Format == "" || m.Size == 0 || m.Size > maxSegmentEntries {
		return fmt.Errorf("%w: no format, or segments of %d entries", ErrManifest, m.Size)
	}
	return nil
}

func (m *Manifest) parseSegment(line []byte, previous string) error {
	var s SealedSegment
	if err := decodeLine(line, &s); err != nil {
		return err
	}
	number := uint64(len(m.Segments)) + 1
	switch {
	case s.Previous != previous:
		return fmt.Errorf("%w: previous is %.80q, and the line before it hashes to %q: one of the two was changed", ErrManifest, s.Previous, previous)
	case s.Number != number || s.First != (number-1)*m.Size+1 || s.Last != number*m.Size || s.Closing+s.Closed+s.Failed != m.Size:
		return fmt.Errorf("%w: segment %d of entries %d to %d: want segment %d of entries %d to %d", ErrManifest, s.Number, s.First, s.Last, number, (number-1)*m.Size+1, number*m.Size)
	case !isHex(s.Digest, 32) || !isHex(s.MerkleRoot, 32) || !isHex(s.LastDigest, 32):
		return fmt.Errorf("%w: a digest is not 64 hex digits in lower case", ErrManifest)
	}
	m.Segments = append(m.Segments, s)
	return nil
}

// decodeLine decodes a line, which must be exactly what encoding v gives.
func decodeLine(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, line) {
		return fmt.Errorf("%w: it is not written as settled writes it", ErrManifest)
	}
	return nil
}

// Text returns the manifest as it is in its file.
func (m *Manifest) Text() []byte { return m.text }

// Sealed returns the sequence of the last sealed entry; 0: none.
func (m *Manifest) Sealed() uint64 { return uint64(len(m.Segments)) * m.Size }

// Previous returns what the next segment has as Previous.
func (m *Manifest) Previous() string {
	text := bytes.TrimSuffix(m.text, []byte("\n"))
	return digest(text[bytes.LastIndexByte(text, '\n')+1:])
}

// Add adds the next segment, whose Previous must be that of the manifest.
func (m *Manifest) Add(s SealedSegment) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("ledger: segment %d: %w", s.Number, err)
	}
	if err := m.parseSegment(line, m.Previous()); err != nil {
		return fmt.Errorf("ledger: segment %d: %w", s.Number, err)
	}
	m.text = append(m.text, append(line, '\n')...)
	return nil
}
