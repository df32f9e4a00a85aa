package ledger

import (
	"errors"
	"fmt"
	"strings"

	"settled/settlement"
)

// subjectKind is the first token of the ledger's subjects, after the prefix, and of its
// event types.
const subjectKind = "settlement"

// Subject returns the subject of the entries of a session in a state, or a filter over
// entries: "*" is any state or any session.
func Subject(prefix string, state settlement.EntryState, session string) string {
	return prefix + subjectKind + "." + string(state) + "." + session
}

// subjects returns the subject that an entry is published to, and the filter over which its
// append is compared. Every writer must use the identical filter.
func subjects(prefix string, state settlement.EntryState, id settlement.SessionID) (subject, filter string) {
	token := id.Token()
	return Subject(prefix, state, token), Subject(prefix, "*", token)
}

// allSubjects is the filter over all entries, and the stream's subject.
func allSubjects(prefix string) string { return Subject(prefix, "*", "*") }

// splitSubject parses a subject that subjects built.
func splitSubject(subject string) (prefix string, state settlement.EntryState, id settlement.SessionID, err error) {
	tokens := strings.Split(subject, ".")
	last := len(tokens) - 1
	if last < 2 || tokens[last-2] != subjectKind {
		return "", "", "", fmt.Errorf("subject %.200q: want settlement.<state>.<session id>", subject)
	}
	prefix = strings.TrimSuffix(subject, strings.Join(tokens[last-2:], "."))
	if err := checkPrefix(prefix); err != nil {
		return "", "", "", fmt.Errorf("subject %.200q: %w", subject, err)
	}
	switch state = settlement.EntryState(tokens[last-1]); state {
	case settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
	default:
		return "", "", "", fmt.Errorf("subject %.200q: unknown state %.80q", subject, tokens[last-1])
	}
	if tokens[last] == settlement.UnknownSession {
		return prefix, state, "", nil
	}
	id, err = settlement.ParseSessionID(tokens[last])
	if err == nil && id.Token() != tokens[last] {
		err = errors.New("upper-case hex digits")
	}
	if err != nil {
		return "", "", "", fmt.Errorf("subject %.200q: %w", subject, err)
	}
	return prefix, state, id, nil
}

// StreamName returns the name of the ledger's stream for a subject prefix: SETTLEMENTS, or
// PROD_SETTLEMENTS for "prod.".
func StreamName(prefix string) string { return streamName(prefix, "SETTLEMENTS") }

// streamName adds the prefix to a stream's name, which can't contain dots.
func streamName(prefix, name string) string {
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + name
}

const tokenLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// checkPrefix accepts the empty prefix, and tokens of letters, digits, "-" and
// "_" that each end with a dot.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	for token := range strings.SplitSeq(strings.TrimSuffix(prefix, "."), ".") {
		if token == "" || strings.Trim(token, tokenLetters) != "" {
			return fmt.Errorf("prefix %.80q: want tokens of letters, digits, - and _ that each end with a dot, such as %q", prefix, "prod.")
		}
	}
	if !strings.HasSuffix(prefix, ".") {
		return fmt.Errorf("prefix %.80q: want a dot at its end", prefix)
	}
	return nil
}
