package settlement

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Identity tells outcomes apart: two messages carry the same outcome if and only if their
// identities are equal, byte for byte. The message itself, and what its stream says of it,
// are no part of it. An Identity can be the key of a map.
type Identity struct {
	Source string
	ID     string
	Type   string
	Digest string // SHA-256 of the data in RFC 8785 form, lower-case hex
}

// Identity returns the identity of the outcome.
func (r OutcomeRef) Identity() Identity { return Identity{r.Source, r.ID, r.Type, r.Digest} }

// Same reports whether both are one outcome, whichever message carried it.
func (r OutcomeRef) Same(o OutcomeRef) bool { return r.Identity() == o.Identity() }

// Hash is SHA-256 over the members, each after its length, so that different identities
// have different hashes whatever their texts contain.
func (i Identity) Hash() [sha256.Size]byte {
	h := sha256.New()
	for _, member := range []string{i.Source, i.ID, i.Type, i.Digest} {
		writeMember(h, member)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func writeMember(h hash.Hash, member string) {
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(member)))) // a hash returns no error
	_, _ = h.Write([]byte(member))
}

// Untyped returns the identity without the type, which a standing does not record.
func (i Identity) Untyped() Identity {
	i.Type = ""
	return i
}

// Identity returns the identity of the outcome that the standing names, without its type;
// zero if no outcome holds the session.
func (s Standing) Identity() Identity {
	return Identity{Source: s.Source, ID: s.ID, Digest: s.Digest}
}

// Standing returns the standing that a closing or closed entry of the outcome sets.
func (r OutcomeRef) Standing(state StandingState) Standing {
	return Standing{State: state, Source: r.Source, ID: r.ID, Digest: r.Digest}
}

// HeldBy reports whether the outcome holds the session, or has settled it. If the entry that
// says so is among Entries, the outcome's type is compared as well.
func (h Head) HeldBy(o OutcomeRef) bool {
	st := h.Standing()
	if st.State == Free {
		return false
	}
	for _, e := range h.Entries {
		if e.Sequence == st.Sequence {
			return e.Outcome.Same(o)
		}
	}
	if h.Last.Sequence == st.Sequence {
		return h.Last.Outcome.Same(o)
	}
	return st.Identity() == o.Identity().Untyped()
}
