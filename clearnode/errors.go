package clearnode

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"settled/settlement"
)

// nodeError is the text of an error that the node answered with. It is foreign:
// it is matched as a whole, and shown quoted and cut.
type nodeError struct{ text string }

func (e *nodeError) Error() string { return "the node answers " + quote(e.text) }

// meaning is what the node's error says of the request that it answers.
type meaning int

const (
	// doubtful: it proves nothing, the request may have been carried out.
	doubtful meaning = iota
	// passing: nothing happened and nothing will; another try may go better.
	passing
	// escrow: nothing happened, and nothing will before a participant's pending
	// escrow is over.
	escrow
	// signedOutNow: nothing happened, and the connection must sign in again.
	signedOutNow
	// outOfTime: nothing happened, for the request's timestamp was too old for the
	// node: its clock has to be learned again.
	outOfTime
	// limited: nothing happened, for the node limits how much is sent to it.
	limited
	// never: nothing happened, and none like it will ever be accepted.
	never
)

// refusal is one error of the node: a whole text, in which a name in braces
// stands for a value of that type.
type refusal struct {
	text    string
	meaning meaning
	code    settlement.Code // where it is never
}

// unproven reports whether the refusal is about the connection, not about the request:
// no close is prepared before the connections have shown again that they take closes.
func (r refusal) unproven() bool { return r.meaning == signedOutNow || r.meaning == outOfTime }

// classified is what an error of the node means. Not listed: its text is in no table,
// so that it is doubtful.
type classified struct {
	refusal
	listed bool
}

// holes are the types of the values inside the texts.
var holes = map[string]string{
	"{address}": `0x[0-9a-fA-F]{40}`,
	"{asset}":   `\S{1,64}`,
	"{number}":  `-?[0-9]{1,78}(?:\.[0-9]{1,78})?`,
	"{name}":    `[^'\n]{0,128}`,
	"{time}":    `[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z`,
	"{words}":   `[ 0-9A-Za-z]{1,128}`,
	"{session}": `0x[0-9a-f]{64}`,
	"{cause}":   `(?s:.+)`, // of the database, mostly: nobody's list
}

// pattern matches whole texts.
type pattern struct {
	refusal
	whole *regexp.Regexp
}

// table is what one generation of node answers, as far as it is known.
type table []pattern

func compile(list []refusal) table {
	patterns := make(table, len(list))
	for i, r := range list {
		expr := regexp.QuoteMeta(r.text)
		for name, hole := range holes {
			expr = strings.ReplaceAll(expr, regexp.QuoteMeta(name), hole)
		}
		patterns[i] = pattern{r, regexp.MustCompile(`\A` + expr + `\z`)}
	}
	return patterns
}

// find says what an error means for a request that changes a session.
func (t table) find(text string) classified {
	for _, p := range t {
		if p.whole.MatchString(text) {
			return classified{p.refusal, true}
		}
	}
	return classified{refusal{text: text, meaning: doubtful}, false}
}

// refused turns the node's error about a request that changes a session into
// what Send returns.
func refused(method, text string, r classified) error {
	said := &nodeError{text: text}
	if !r.listed {
		return &settlement.Waiting{Reason: settlement.UnknownRefusal, Err: inDoubt(method, said)}
	}
	switch r.meaning {
	case never:
		return &settlement.Refused{Err: settlement.Fail(r.code, "%s", said)}
	case escrow:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.EscrowPending, Err: said}}
	case signedOutNow, outOfTime:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.NotReady, Err: said}}
	case limited:
		return &settlement.Refused{Err: &settlement.Waiting{Reason: settlement.NodeTransient, Err: said}}
	case passing:
		return &settlement.Refused{Err: said}
	default:
		return inDoubt(method, said)
	}
}

// inDoubt: the request left, and nothing that came back proves what became of it.
func inDoubt(method string, err error) error {
	return fmt.Errorf("%s: %w: %w", method, ErrNoAnswer, err)
}

// The classes of Config.CallFunc.
const (
	classOK      = "ok"
	classRefused = "refused"
	classInDoubt = "in_doubt"
	classWaiting = "waiting"
)

// callClass is a call's end, as a label.
func callClass(d framing, method string, a answer, err error) string {
	text, failed := a.failed()
	switch {
	case err == nil && !failed:
		return classOK
	case errors.Is(err, ErrNotSent), err == nil && strings.HasPrefix(method, "auth_"):
		return classRefused
	case !changes(method):
		return classWaiting
	case err == nil && d.classify(text).meaning != doubtful:
		return classRefused
	default:
		return classInDoubt
	}
}

// changes reports whether a method changes a session.
func changes(method string) bool { return method == closeMethod || method == v1Submit }
