package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Anchor is how far an earlier audit saw the ledger: the sequence of its last
// entry, and that entry's SHA-256 where it was noted too. Kept elsewhere it shows
// what no chain can: that the tail of the ledger was removed, or replaced.
type Anchor struct {
	Sequence uint64
	Digest   string // lower-case hex; empty: only the sequence is held to
}

// String is the anchor as ParseAnchor reads it.
func (a Anchor) String() string {
	text := strconv.FormatUint(a.Sequence, 10)
	if a.Digest != "" {
		text += ":" + a.Digest
	}
	return text
}

// ParseAnchor reads SEQUENCE or SEQUENCE:SHA256.
func ParseAnchor(text string) (Anchor, error) {
	number, digest, with := strings.Cut(text, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	digest = strings.ToLower(digest)
	if err != nil || n == 0 || with && !isHex(digest, 32) {
		return Anchor{}, fmt.Errorf("anchor %.100q: want a sequence, or a sequence, a colon and 64 hex digits", text)
	}
	return Anchor{n, digest}, nil
}

// hold compares an entry of the stream with the anchor.
func (a Anchor) hold(s Stored) error {
	if s.Sequence != a.Sequence || a.Digest == "" {
		return nil
	}
	if got := digest(s.Payload); got != a.Digest {
		return fmt.Errorf("it hashes to %s, and by the anchor it was %s: the ledger was replaced from here or from before", got, a.Digest)
	}
	return nil
}

// reached says whether the ledger goes as far as the anchor.
func (a Anchor) reached(last uint64) error {
	if last >= a.Sequence {
		return nil
	}
	return errors.New("the ledger ends here, and by the anchor it went on to entry " + strconv.FormatUint(a.Sequence, 10) + ": its tail was removed")
}
