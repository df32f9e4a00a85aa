package consumer

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"settled/settlement"
)

// OutcomesStream is the stream that outcomes are published to: "prod." makes
// PROD_OUTCOMES.
func OutcomesStream(prefix string) string { return streamName(prefix, "OUTCOMES") }

// DeadLettersStream is the stream of dead letters.
func DeadLettersStream(prefix string) string { return streamName(prefix, "DEADLETTERS") }

// OperationsStream is the stream of what operators did.
func OperationsStream(prefix string) string { return streamName(prefix, "OPERATIONS") }

// ledgerStream is the stream that the ledger keeps its entries in. Only whether it
// holds any is of interest here.
func ledgerStream(prefix string) string { return streamName(prefix, "SETTLEMENTS") }

// OutcomeSubject is the subject that an outcome of this scenario is published to.
func OutcomeSubject(prefix string, s settlement.Scenario) string {
	return prefix + "outcome." + string(s)
}

// OutcomesFilter matches every outcome's subject.
func OutcomesFilter(prefix string) string { return prefix + "outcome.*" }

// DeadLetterSubject is the subject of dead letters of this scenario; the empty
// scenario, which is one that can't be read, has the token "unknown".
func DeadLetterSubject(prefix string, s settlement.Scenario) string {
	if s == "" {
		s = unknownScenario
	}
	return prefix + "deadletter." + string(s)
}

// OperationSubject is the subject of an operator's action.
func OperationSubject(prefix, action string) string { return prefix + "operation." + action }

const unknownScenario = "unknown"

// streamName upper-cases the prefix; a stream's name can't hold dots.
func streamName(prefix, name string) string {
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + name
}

// MessageID is the Nats-Msg-Id of an outcome: the hex SHA-256 of its source, its id and
// the digest of its data, joined by NUL. Two publishes of one outcome within the
// stream's duplicate window are stored once; the same id with other data is stored, and
// becomes an outcome_conflict. Whoever can publish can use an id first: a duplicate
// answer proves nothing before the stored message was compared.
func MessageID(source, id string, digest ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{source, id}, digest...), "\x00")))
	return hex.EncodeToString(sum[:])
}
