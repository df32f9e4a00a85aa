package cosigner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/clearnode"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// Bounds of what one party takes from another.
const (
	maxProposal     = 1 << 20 // bytes of a request: no more fits into a message of NATS as it comes
	MaxCosignAnswer = 8 << 10
	MaxForeignText  = 512 // bytes of another party's words that are kept
)

// Subject is where an account's co-signature is asked for. The address is
// in lower case, as session ids are: subjects tell cases apart.
func Subject(prefix string, of settlement.Address) string {
	return prefix + "cosign." + strings.ToLower(of.String())
}

// CosignAnswer is what a co-signer answers: one of signature, refused and waiting.
type CosignAnswer struct {
	Signature string              `json:"signature,omitempty"` // hex, in the form that the node takes
	Address   string              `json:"address,omitempty"`   // whose it is
	Refused   *settlement.Failure `json:"refused,omitempty"`   // never, as it is proposed
	Waiting   *CosignWaiting      `json:"waiting,omitempty"`   // not now
}

// CosignWaiting is why a co-signer can't say yet.
type CosignWaiting struct {
	Reason  settlement.Reason `json:"reason"`
	Message string            `json:"message"`
	Until   *time.Time        `json:"until,omitempty"` // where it is known when that passes
}

// ReadProposal reads a request as strictly as an outcome is read: names in their
// own case, none twice, none that nobody knows, and nothing after it.
func ReadProposal(text []byte) (clearnode.Proposal, error) {
	var p clearnode.Proposal
	if len(text) > maxProposal {
		return p, fmt.Errorf("%d bytes, at most %d are read", len(text), maxProposal)
	}
	if !utf8.Valid(text) {
		return p, errors.New("not UTF-8")
	}
	if err := checkNames(text); err != nil {
		return p, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, errors.New(foreign(err.Error()))
	}
	if p.Session == "" || len(p.Payload) == 0 {
		return p, errors.New("session_id or payload is missing")
	}
	return p, nil
}

// maxDepth is deeper than a proposal goes.
const maxDepth = 8

// checkNames refuses what encoding/json would take in silence: a name twice in one
// object, or in another case. All names of a proposal are in lower case.
func checkNames(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := namesIn(decoder, 0); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands after it")
	}
	return nil
}

func namesIn(decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	if err != nil {
		return errors.New("not JSON")
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return errors.New("too deeply nested")
	}
	seen := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			name, err := decoder.Token()
			if err != nil {
				return errors.New("not JSON")
			}
			if err := checkName(name, seen); err != nil {
				return err
			}
		}
		if err := namesIn(decoder, depth+1); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errors.New("not JSON")
	}
	return nil
}

func checkName(token json.Token, seen map[string]bool) error {
	name, _ := token.(string)
	if strings.ToLower(name) != name {
		return fmt.Errorf("%s: no member has that name", foreign(name))
	}
	if seen[name] {
		return fmt.Errorf("%s stands twice", foreign(name))
	}
	seen[name] = true
	return nil
}

// ErrUseless says that an answer to a request for a co-signature can't be used.
var ErrUseless = errors.New("an answer that can't be used")

// cosignerWaits says that a co-signer answered that it can't say yet.
type cosignerWaits struct {
	reason, message string
	until           time.Time // zero: it doesn't know
}

func (w *cosignerWaits) Error() string {
	text := "the co-signer waits (" + w.reason + ")"
	if !w.until.IsZero() {
		text += " until " + w.until.UTC().Format(time.RFC3339)
	}
	return text + ": " + w.message
}

// ReadCosignAnswer takes a signature where it is the asked account's over the very
// payload. A *settlement.Failure is a reasoned refusal; *cosignerWaits and
// errUseless are the other answers.
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
			return nil, fmt.Errorf("%w: %s", ErrUseless, foreign(err.Error()))
		}
		return signature, nil
	case a.Refused != nil && slices.Contains(settlement.Codes(), a.Refused.Code):
		return nil, settlement.Fail(a.Refused.Code, "%s", foreign(a.Refused.Message))
	case a.Waiting != nil:
		return nil, a.Waiting.err()
	}
	return nil, fmt.Errorf("%w: neither a signature nor a refusal nor a reason to wait", ErrUseless)
}

func (w *CosignWaiting) err() error {
	waits := &cosignerWaits{reason: foreign(string(w.Reason)), message: foreign(w.Message)}
	if w.Until != nil {
		waits.until = *w.Until
	}
	return waits
}

// foreign is another party's text as it may be logged and recorded: on one line,
// and cut where it is long.
func foreign(s string) string {
	if len(s) > MaxForeignText {
		s = s[:MaxForeignText] + "…"
	}
	return terminal.Printable(strings.ToValidUTF8(s, "·"))
}
