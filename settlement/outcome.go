package settlement

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/big"
	"time"
)

// Bounds of an outcome's text, in bytes, and of its lists.
const (
	MaxReference = 256
	MaxReason    = 4 << 10
	MaxEvidence  = 32
	MaxProof     = 1 << 10
	MaxAwards    = 1000

	MaxSessionData = 16 << 10
	MaxSignatures  = 64
	MaxSignature   = 1 << 10
)

// Envelope is one message as the consumer read it from the stream: what its CloudEvent
// says, its position, and the message itself for a dead letter.
type Envelope struct {
	Subject  string // outcome.<scenario>, without the deployment's prefix
	Source   string
	ID       string
	Type     string
	Data     []byte // the event's data as JSON text; nil if there is none
	Stream   string
	Sequence uint64    // position in that stream
	Stored   time.Time // when the stream stored the message, by its server's clock; zero if that isn't known

	// Malformed says why the message is no CloudEvent. The other members hold what could
	// be read.
	Malformed error

	Traceparent string // W3C Trace Context; empty if there is none
	Tracestate  string // the tracestate header, unchanged
	Payload     []byte // the message, unchanged
	Header      map[string][]string
}

// OutcomeRef identifies an outcome in the ledger. Source, ID, Type and Digest
// together are its Identity; Stream, Sequence and Stored say which message carried it. A
// stream that is restored from an older copy reuses its sequences, so Stored counts too.
type OutcomeRef struct {
	Source   string `json:"source"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Digest   string `json:"digest"`   // SHA-256 of the data in RFC 8785 form, lower-case hex
	Stream   string `json:"stream"`   // of the message
	Sequence uint64 `json:"sequence"` // of the message, in that stream

	// Stored is when the stream stored the message, in UTC with nine decimals of the
	// second, so that times compare as text. Empty in entries of earlier versions.
	Stored string `json:"stored,omitempty"`
}

// SameMessage reports whether both are one outcome in one message.
func (r OutcomeRef) SameMessage(o OutcomeRef) bool {
	return r.Same(o) && r.Stream == o.Stream && r.Sequence == o.Sequence && (r.Stored == o.Stored || r.Stored == "" || o.Stored == "")
}

// clockDifference is how far the clocks of two servers may be apart.
const clockDifference = time.Minute

// Covers reports whether a failure of r, recorded at that time, is the result also of the
// message of o, which carried the same outcome: it was stored no later than r's message. A
// message with a later sequence settles the outcome again, and so does one that was stored
// later: its stream was restored from an older copy and reuses sequences. Both times are by the clock
// of the stream's servers. If the entry doesn't say when r was stored, the message is new
// if it was stored more than a minute after the entry was made, by the clocks of the stream
// and of settled.
func (r OutcomeRef) Covers(o OutcomeRef, recorded time.Time) bool {
	stored := r.Stored
	if stored == "" {
		stored = storedText(recorded.Add(clockDifference))
	}
	return o.Sequence <= r.Sequence && o.Stored <= stored
}

// Outcome is what upstream says happened in one app session.
type Outcome struct {
	Ref        OutcomeRef
	Session    SessionID // empty if it can't be read
	Scenario   Scenario
	Parties    map[string]Party // by role
	Completion *big.Rat         // nil if absent
	Awards     []Award
	Expect     *Expect
	Reference  string
	Reason     string
	Evidence   []string

	// SessionData replaces the node's session data; nil leaves that unchanged.
	SessionData *string
	// Signatures came with the outcome, in hex, and are not verified yet.
	Signatures []string

	// Invalid says what is wrong with the message; nil if it can be settled. Settle records
	// the failure of an invalid outcome.
	Invalid *Failure

	// FirstDelivery says that the message was not delivered before. It is a hint that the
	// session has no entry yet, and decides nothing.
	FirstDelivery bool

	Envelope Envelope

	unknown []string // names of members of the data that are not known
}

// Party is the accounts that have one role.
type Party struct {
	Addresses []Address
	err       error // why it can't be read
}

// Award is one row of a ruling: a share of every asset, or an amount of one asset.
type Award struct {
	Participant Address
	Share       *big.Rat // nil in an award by amount
	Asset       Asset
	Amount      Amount
}

// Expect is what the publisher expects of the session. The session is not closed if the
// node shows otherwise.
type Expect struct {
	Totals  []Total // nil: not checked
	Version *uint64 // nil: not checked
}

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
