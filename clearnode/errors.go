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

// The texts that mean something outside of the table as well.
const (
	staleText   = "invalid message timestamp"
	unknownText = "failed to get application session" // the definition of no session, or the database is away
)

// meaning is what the node's error says of the request that it answers.
type meaning int

const (
	// doubtful: it proves nothing, the request may have been carried out.
	doubtful meaning = iota
	// passing: nothing happened and nothing will; another try may go better.
	passing
	// signedOutNow: the same, and the connection must sign in again.
	signedOutNow
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

// refusals are the errors by which a close is known not to have happened. The
// node checks all of these before it commits, and rolls back. Every other error is
// doubtful, and stays so even where its wording sounds harmless:
//
//	failed to close application session            the database failed, perhaps at the commit
//	an error occurred while processing the request the same
//	failed to record …, failed to get … balance …  raised inside the transaction
//	… database table is locked …                   the same
//
// Texts: recorded from ClearNode 0.5.2 (testdata/errors.json); those marked "source"
// were read in its code.
var refusals = compile([]refusal{
	// Closed, or never there, or rolled back in a lost race: a fresh read tells.
	{"an open app session not found: record not found", passing, ""},
	{"asset {asset} is not deposited into the app session. Please deposit the asset first", passing, ""}, // source
	// Too late, by our own stamp.
	{staleText, passing, ""},
	// Signed out.
	{"authentication required", signedOutNow, ""},
	{"session expired, please re-authenticate", signedOutNow, ""}, // source
	{"invalid policy type in storage", signedOutNow, ""},          // source
	// The keys.
	{"incorrect submit_state request: quorum not reached: {number} / {number}", never, settlement.QuorumNotReached},
	{"signature from unknown participant wallet {address}", never, settlement.Unauthorized},
	{"session key application validation failed for signer {address}: session key application mismatch: session key is for '{name}', but app session is for '{name}'", never, settlement.Unauthorized},
	{"failed to get wallets from RPC message", never, settlement.Unauthorized},
	{"failed to get signers from RPC message", never, settlement.Unauthorized}, // source
	// The allocation.
	{"allocation to non-participant {address}", never, settlement.NotAParticipant},
	{"asset {asset} not fully redistributed", never, settlement.AllocationRejected},
	{"allocation references unknown asset {asset}", never, settlement.AllocationRejected},
	{"negative allocation: {number} for asset {asset}", never, settlement.AllocationRejected},
	{"missing required parameters: app_id or allocations", never, settlement.AllocationRejected},
	// The request itself: a defect, or a node of another kind.
	{"failed to parse parameters", never, settlement.NodeRejected},
	{"invalid message format", never, settlement.NodeRejected},
	{"message validation failed", never, settlement.NodeRejected},
	{"message request is empty", never, settlement.NodeRejected}, // source
	{"unknown method: {name}", never, settlement.NodeRejected},
})

// holes are the types of the values inside the texts.
var holes = map[string]string{
	"{address}": `0x[0-9a-fA-F]{40}`,
	"{asset}":   `\S{1,64}`,
	"{number}":  `-?[0-9]{1,78}(?:\.[0-9]{1,78})?`,
	"{name}":    `[^'\n]{0,128}`,
}

// pattern matches whole texts.
type pattern struct {
	refusal
	whole *regexp.Regexp
}

func compile(list []refusal) []pattern {
	patterns := make([]pattern, len(list))
	for i, r := range list {
		expr := regexp.QuoteMeta(r.text)
		for name, hole := range holes {
			expr = strings.ReplaceAll(expr, regexp.QuoteMeta(name), hole)
		}
		patterns[i] = pattern{r, regexp.MustCompile(`\A` + expr + `\z`)}
	}
	return patterns
}

// classify says what an error of the node means for a close.
func classify(text string) refusal {
	for _, p := range refusals {
		if p.whole.MatchString(text) {
			return p.refusal
		}
	}
	return refusal{text: text, meaning: doubtful}
}

// signedOut reports whether an error says that the node forgot the login.
func signedOut(text string) bool { return classify(text).meaning == signedOutNow }

// refused turns the node's error about a close into what Send returns.
func refused(text string) error {
	r := classify(text)
	said := &nodeError{text: text}
	switch r.meaning {
	case never:
		return &settlement.Refused{Err: settlement.Fail(r.code, "%s", said)}
	case passing, signedOutNow:
		return &settlement.Refused{Err: said}
	default:
		return fmt.Errorf("%s: %w: %w", closeMethod, ErrNoAnswer, said)
	}
}

// The classes of Config.CallFunc.
const (
	classOK      = "ok"
	classRefused = "refused"
	classInDoubt = "in_doubt"
	classWaiting = "waiting"
)

// callClass is a call's end, as a label.
func callClass(method string, a answer, err error) string {
	text, failed := a.failed()
	switch {
	case err == nil && !failed:
		return classOK
	case errors.Is(err, ErrNotSent), err == nil && strings.HasPrefix(method, "auth_"):
		return classRefused
	case method != closeMethod:
		return classWaiting
	case err == nil && classify(text).meaning != doubtful:
		return classRefused
	default:
		return classInDoubt
	}
}
