package protocol

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"settled/settlement"
)

// ErrNotSent proves that a call never left: no write was attempted, and nothing can have
// happened.
var ErrNotSent = errors.New("not sent")

// ErrNoAnswer says that a call left, or may have left in part, and that no verified
// answer came. Its effect is not known.
var ErrNoAnswer = errors.New("no answer")

// NotSent wraps the reason why a request never left.
func NotSent(method string, cause error) error {
	return fmt.Errorf("%s: %w: %w", method, ErrNotSent, cause)
}

// InDoubt wraps the reason why the effect of a request that left is not known.
func InDoubt(method string, cause error) error {
	return fmt.Errorf("%s: %w: %w", method, ErrNoAnswer, cause)
}

// NodeError is an error that the node answered with. Its text is foreign: it is matched
// as a whole, and shown quoted and cut.
type NodeError struct{ Text string }

func (e *NodeError) Error() string { return "the node answers " + Quote(e.Text) }

// NodeErrorText returns the text of the *NodeError inside an error, or "".
func NodeErrorText(err error) string {
	var n *NodeError
	if errors.As(err, &n) {
		return n.Text
	}
	return ""
}

// ErrSignedOut says that a connection is not signed in, at a node that answers nothing
// before sign-in.
var ErrSignedOut = errors.New("the connection is not signed in")

// LoginRefused says that no connection can sign in for now. Any other error of a sign-in
// concerns only its connection.
type LoginRefused struct{ Err error }

func (e *LoginRefused) Error() string { return e.Err.Error() }

func (e *LoginRefused) Unwrap() error { return e.Err }

// Meaning is what an error of the node says about the request that it answers.
type Meaning int

const (
	// Unknown: the text is in no table. It proves nothing.
	Unknown Meaning = iota
	// Doubtful: the error proves nothing, the request may have taken effect.
	Doubtful
	// Passing: nothing happened and nothing will; another attempt may succeed.
	Passing
	// Escrow: nothing happened, and nothing will until a participant's pending escrow
	// is over.
	Escrow
	// SignedOut: nothing happened, and the connection must sign in again.
	SignedOut
	// OutOfTime: nothing happened, because the request's timestamp was too old for the
	// node: its clock has to be learned again.
	OutOfTime
	// Limited: nothing happened, because the node limits how much is sent to it.
	Limited
	// Never: nothing happened, and the node will never accept such a request.
	Never
)

// Proves reports whether the error proves that the request had no effect.
func (m Meaning) Proves() bool { return m != Unknown && m != Doubtful }

// AboutConnection reports whether the error is about the connection and not about the
// request: no close is prepared until a connection has shown that it accepts closes.
func (m Meaning) AboutConnection() bool { return m == SignedOut || m == OutOfTime }

// Refusal is one error of the node: a whole text, in which a name in braces stands for a
// value of that type.
type Refusal struct {
	Text    string
	Meaning Meaning
	Code    settlement.Code // of Never
}

// Err returns what Send returns when the node answers a request that changes a session
// with this text.
func (r Refusal) Err(method, text string) error {
	answered := &NodeError{text}
	switch r.Meaning {
	case Never:
		return &settlement.Refused{Err: settlement.Fail(r.Code, "%s", answered)}
	case Escrow:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.EscrowPending, Err: answered}}
	case SignedOut, OutOfTime:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.NotReady, Err: answered}}
	case Limited:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.NodeTransient, Err: answered}}
	case Passing:
		return &settlement.Refused{Err: answered}
	case Doubtful:
		return InDoubt(method, answered)
	default:
		return &settlement.Waiting{Reason: settlement.UnknownRefusal, Err: InDoubt(method, answered)}
	}
}

// placeholders are the types of the values inside the texts.
var placeholders = map[string]string{
	"{address}": `0x[0-9a-fA-F]{40}`,
	"{asset}":   `\S{1,64}`,
	"{number}":  `-?[0-9]{1,78}(?:\.[0-9]{1,78})?`,
	"{name}":    `[^'\n]{0,128}`,
	"{time}":    `[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z`,
	"{words}":   `[ 0-9A-Za-z]{1,128}`,
	"{session}": `0x[0-9a-f]{64}`,
	"{cause}":   `(?s:.+)`, // mostly an error of the database, which no list can hold
}

// Table lists the errors of one generation of node.
type Table []pattern

type pattern struct {
	Refusal
	whole *regexp.Regexp
}

// Texts are errors that mean this.
func (m Meaning) Texts(texts ...string) []Refusal { return m.As("", texts...) }

// As is Texts for Never: the outcome fails with a code.
func (m Meaning) As(code settlement.Code, texts ...string) []Refusal {
	list := make([]Refusal, len(texts))
	for i, text := range texts {
		list[i] = Refusal{text, m, code}
	}
	return list
}

// NewTable compiles a table.
func NewTable(groups ...[]Refusal) Table {
	var patterns Table
	for _, r := range slices.Concat(groups...) {
		expr := regexp.QuoteMeta(r.Text)
		for name, value := range placeholders {
			expr = strings.ReplaceAll(expr, regexp.QuoteMeta(name), value)
		}
		patterns = append(patterns, pattern{r, regexp.MustCompile(`\A` + expr + `\z`)})
	}
	return patterns
}

// Find returns the first entry that matches a text as a whole, or a Refusal of an unknown
// meaning.
func (t Table) Find(text string) Refusal {
	for _, p := range t {
		if p.whole.MatchString(text) {
			return p.Refusal
		}
	}
	return Refusal{Text: text}
}
