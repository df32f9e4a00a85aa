package deadletter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"settled/consumer"
)

// The headers that a dead letter adds to those of its message.
const (
	headerCode     = "Settled-Code"
	headerClass    = "Settled-Class"
	headerError    = "Settled-Error"
	headerAttempts = "Settled-Attempts"
	headerOrigin   = "Settled-Origin"
	headerSubject  = "Settled-Subject"
	headerSession  = "Settled-Session"
	headerFailedAt = "Settled-Failed-At"

	// Set if the dead letter was too big for the server or its stream.
	headerTruncated = "Settled-Truncated"        // the length of the whole payload
	headerOmitted   = "Settled-Original-Omitted" // the number of headers left out

	// headerOriginal begins the names of those headers of the message that a dead letter
	// can't have under their own name: instructions to the server (Nats-…), names that a
	// dead letter adds itself, and names that no client can write.
	headerOriginal = "Settled-Original-"
	headerEscaped  = headerOriginal + "Escaped-"
)

// The headers of a message that was published again.
const (
	headerReplay  = "Settled-Replay"  // how many times its outcome has been replayed
	headerRequeue = "Settled-Requeue" // the stream and sequence of the message it repeats
)

var addedHeaders = []string{
	headerCode, headerClass, headerError, headerAttempts, headerOrigin, headerSubject, headerSession,
	headerFailedAt, headerTruncated,
}

// isReserved reports whether a message's header of this name is renamed in its dead letter.
func isReserved(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "nats-") || strings.HasPrefix(lower, strings.ToLower(headerOriginal)) ||
		slices.ContainsFunc(addedHeaders, func(added string) bool { return strings.EqualFold(added, name) })
}

// keptHeaders returns a message's headers as its dead letter keeps them.
func keptHeaders(header nats.Header) nats.Header {
	kept := nats.Header{}
	for name, values := range header {
		kept[keptName(name)] = slices.Clone(values)
	}
	return kept
}

func keptName(name string) string {
	switch {
	case !isWritable(name):
		return headerEscaped + escapeName(name)
	case isReserved(name):
		return headerOriginal + name
	default:
		return name
	}
}

// restoredHeaders returns the headers of a message that is published again: without those
// that a dead letter added, those that instruct the server, and those that can't be written.
func restoredHeaders(stored nats.Header) nats.Header {
	restored := nats.Header{}
	for name, values := range stored {
		if !isReserved(name) && isWritable(name) {
			restored[name] = slices.Clone(values)
		}
	}
	return restored
}

// isWritable reports whether the client library sends a header of this name (ADR-4).
// Other clients may have published others.
func isWritable(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return !isWritableRune(r) }) < 0
}

func isWritableRune(r rune) bool {
	return r > ' ' && r < 0x7F && !strings.ContainsRune("\"()/,:;<=>?@[\\]{}", r)
}

func escapeName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if isWritableRune(rune(c)) && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// maxTruncated is how much is kept of a payload that can't be kept whole.
const maxTruncated = 64 << 10

// reductions make a dead letter smaller, step by step, until the server stores it: first
// not at all, then without the message's own headers, then with a shortened payload. The
// whole message is still in the stream of outcomes.
var reductions = []func(letter *nats.Msg){
	func(*nats.Msg) {},
	omitHeaders,
	func(letter *nats.Msg) {
		letter.Header.Set(headerTruncated, strconv.Itoa(len(letter.Data)))
		letter.Data = letter.Data[:min(len(letter.Data), maxTruncated)]
	},
}

// omitHeaders keeps, of the message's own headers, the number of replays and the
// publisher's signature, without which a replay would not be trusted.
func omitHeaders(letter *nats.Msg) {
	kept, omitted := nats.Header{}, 0
	for name, values := range letter.Header {
		isSignature := strings.EqualFold(name, consumer.SignatureHeader) && len(values) == 1 && len(values[0]) <= 2*65+len("0x")
		switch {
		case slices.Contains(addedHeaders, name) || name == headerReplay && len(values[0]) < 20 || isSignature:
			kept[name] = values[:1]
		case !strings.HasPrefix(name, "Nats-"): // the client library set those for this publish
			omitted++
		}
	}
	kept.Set(headerOmitted, strconv.Itoa(omitted))
	letter.Header = kept
}
