package cosigner

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	jsonv2 "github.com/go-json-experiment/json"

	"settled/clearnode"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// Bounds of what one party reads from another.
const (
	maxProposal     = 1 << 20 // bytes of a request: the default limit of a NATS message
	MaxCosignAnswer = 8 << 10
	MaxForeignText  = 512 // bytes of another party's text that are kept
)

// Subject is where an account's co-signature is asked for. The address is in lower case,
// as session ids are: subjects are case-sensitive.
func Subject(prefix string, of settlement.Address) string {
	return prefix + "cosign." + strings.ToLower(of.String())
}

// CosignAnswer is what a co-signer answers: one of signature, refused and waiting.
type CosignAnswer struct {
	Signature string              `json:"signature,omitempty"` // hex, in the form that the node accepts
	Address   string              `json:"address,omitempty"`   // of the signer
	Refused   *settlement.Failure `json:"refused,omitempty"`   // this proposal will never be signed
	Waiting   *CosignWaiting      `json:"waiting,omitempty"`   // ask again later
}

// CosignWaiting is why a co-signer can't decide yet.
type CosignWaiting struct {
	Reason  settlement.Reason `json:"reason"`
	Message string            `json:"message"`
	Until   *time.Time        `json:"until,omitempty"` // where it is known when that passes
}

// ReadProposal parses a request as strictly as an outcome is parsed: member names are
// case-sensitive, and neither duplicate nor unknown ones, invalid UTF-8, nor anything after
// the object is accepted.
func ReadProposal(text []byte) (clearnode.Proposal, error) {
	var p clearnode.Proposal
	if len(text) > maxProposal {
		return p, fmt.Errorf("%d bytes, at most %d are read", len(text), maxProposal)
	}
	if err := jsonv2.Unmarshal(text, &p, jsonv2.RejectUnknownMembers(true)); err != nil {
		return p, errors.New(sanitize(err.Error()))
	}
	if p.Session == "" || len(p.Payload) == 0 {
		return p, errors.New("session_id or payload is missing")
	}
	return p, nil
}

// ErrUseless says that an answer to a request for a co-signature can't be used.
var ErrUseless = errors.New("an answer that can't be used")

// cosignerWaits is a co-signer's answer that it can't decide yet.
type cosignerWaits struct {
	reason, message string
	until           time.Time // zero: unknown
}

func (w *cosignerWaits) Error() string {
	text := "the co-signer waits (" + w.reason + ")"
	if !w.until.IsZero() {
		text += " until " + w.until.UTC().Format(time.RFC3339)
	}
	return text + ": " + w.message
}

// ReadCosignAnswer returns the signature in an answer if it is the given account's over
// the payload. A *settlement.Failure is a refusal; the other errors are *cosignerWaits and
// ErrUseless.
func ReadCosignAnswer(text []byte, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	var a CosignAnswer
	if len(text) > MaxCosignAnswer {
		return nil, fmt.Errorf("%w: %d bytes", ErrUseless, len(text))
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("%w: it is not JSON of the form agreed on", ErrUseless)
	}
	switch {
	case a.Signature != "":
		signature, err := hexutil.Decode(a.Signature)
		if err == nil {
			err = p.SignedBy(of, signature)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrUseless, sanitize(err.Error()))
		}
		return signature, nil
	case a.Refused != nil && slices.Contains(settlement.Codes(), a.Refused.Code):
		return nil, settlement.Fail(a.Refused.Code, "%s", sanitize(a.Refused.Message))
	case a.Waiting != nil:
		waits := &cosignerWaits{reason: sanitize(string(a.Waiting.Reason)), message: sanitize(a.Waiting.Message)}
		if a.Waiting.Until != nil {
			waits.until = *a.Waiting.Until
		}
		return nil, waits
	}
	return nil, fmt.Errorf("%w: neither a signature nor a refusal nor a reason to wait", ErrUseless)
}

// sanitize makes another party's text safe to log and record: printable, on one line, and
// of bounded length.
func sanitize(s string) string {
	if len(s) > MaxForeignText {
		s = s[:MaxForeignText] + "…"
	}
	return terminal.Printable(strings.ToValidUTF8(s, "·"))
}
