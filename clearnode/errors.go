package clearnode

import (
	"errors"
	"strings"

	"settled/clearnode/internal/protocol"
)

// The tables that turn a node's error text into its meaning are in the file errors.go of
// internal/legacy, internal/nitrorpc and internal/nitronode.

// ErrNotSent proves that a call was never sent: no write was attempted, and nothing can
// have happened.
var ErrNotSent = protocol.ErrNotSent

// ErrNoAnswer says that a call was sent, or may have been sent in part, and that no verified
// answer came. Its effect is not known.
var ErrNoAnswer = protocol.ErrNoAnswer

// The classes of Config.CallFunc.
const (
	classOK      = "ok"
	classRefused = "refused"
	classInDoubt = "in_doubt"
	classWaiting = "waiting"
)

// callClass is how a call ended, as a label.
func callClass(d dialect, method string, a protocol.Answer, err error) string {
	text, failed := a.ErrorText()
	switch {
	case err == nil && !failed:
		return classOK
	case errors.Is(err, ErrNotSent), err == nil && strings.HasPrefix(method, "auth_"):
		return classRefused
	case method != d.Traits().SettleMethod:
		return classWaiting
	case err == nil && d.Classify(text).Meaning.Proves():
		return classRefused
	default:
		return classInDoubt
	}
}
