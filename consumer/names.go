package consumer

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"settled/settlement"
)

// SignatureHeader contains the publisher's signature of an outcome.
const SignatureHeader = "Settled-Signature"

// OutcomesStream is the stream that outcomes are published to: "prod." gives
// PROD_OUTCOMES.
func OutcomesStream(prefix string) string { return streamName(prefix, "OUTCOMES") }

// DeadLettersStream is the stream of dead letters.
func DeadLettersStream(prefix string) string { return streamName(prefix, "DEADLETTERS") }

// OperationsStream is the stream that records what operators did.
func OperationsStream(prefix string) string { return streamName(prefix, "OPERATIONS") }

// ledgerStream is the ledger's stream. This package only asks whether it has entries.
func ledgerStream(prefix string) string { return streamName(prefix, "SETTLEMENTS") }

// streamName puts the prefix in upper case, without dots, before the name.
func streamName(prefix, name string) string {
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + name
}

// OutcomeSubject is the subject that an outcome of a scenario is published to.
func OutcomeSubject(prefix string, s settlement.Scenario) string {
	return prefix + "outcome." + string(s)
}

// OutcomesFilter matches every outcome's subject.
func OutcomesFilter(prefix string) string { return prefix + "outcome.*" }

// DeadLetterSubject is the subject of dead letters of a scenario. The empty scenario,
// which could not be read, has the token "unknown".
func DeadLetterSubject(prefix string, s settlement.Scenario) string {
	if s == "" {
		s = "unknown"
	}
	return prefix + "deadletter." + string(s)
}

// OperationSubject is the subject of an operator's action.
func OperationSubject(prefix, action string) string { return prefix + "operation." + action }

// MessageID is the Nats-Msg-Id of an outcome: the hex SHA-256 of its source, its id and
// the digest of its data, joined by NUL. Two publishes of one outcome within the stream's
// duplicate window are stored once; the same id with other data is stored, and becomes an
// outcome_conflict if it names the same session. Any publisher can use an id first: the
// server's answer that a message is a duplicate proves nothing until the stored message is
// compared.
func MessageID(source, id string, digest ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{source, id}, digest...), "\x00")))
	return hex.EncodeToString(sum[:])
}

// OneLine returns the text as one line of at most n bytes, suitable for a header.
func OneLine(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F || r == 0x85 || r == '\u2028' || r == '\u2029' }), " ")
	text = strings.TrimSpace(text)
	if len(text) <= n {
		return text
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(text[:n-len(ellipsis)], "") + ellipsis
}
