package consumer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// SignatureHeader holds the signature of an outcome by its publisher.
const SignatureHeader = "Settled-Signature"

const (
	// headerOriginal begins the names of the message's headers that can't stand
	// in a dead letter under their own: those that steer the server (Nats-…),
	// those that a dead letter adds itself, and those that no client can write.
	headerOriginal = "Settled-Original-"
	headerEscaped  = headerOriginal + "Escaped-"

	// What had to be left out of a letter that was too big for the server or its stream.
	headerOmitted   = "Settled-Original-Omitted" // how many headers
	headerTruncated = "Settled-Truncated"        // how long the payload was
)

var addedHeaders = []string{
	headerCode, headerClass, headerError, headerAttempts, headerOrigin, headerSubject, headerSession,
	headerFailedAt, headerTruncated,
}

// keptHeaders are a message's headers as its dead letter keeps them.
func keptHeaders(header nats.Header) nats.Header {
	kept := nats.Header{}
	for name, values := range header {
		kept[keptName(name)] = slices.Clone(values)
	}
	return kept
}

func keptName(name string) string {
	lower := strings.ToLower(name)
	ours := slices.ContainsFunc(addedHeaders, func(added string) bool { return strings.EqualFold(added, name) })
	switch {
	case !writable(name):
		return headerEscaped + escaped(name)
	case ours || strings.HasPrefix(lower, "nats-") || strings.HasPrefix(lower, strings.ToLower(headerOriginal)):
		return headerOriginal + name
	default:
		return name
	}
}

// restoredHeaders are the headers a letter's message had, without those that were
// instructions to the server for that one publish, and those that can't be written.
func restoredHeaders(letter nats.Header) nats.Header {
	restored := nats.Header{}
	for name, values := range letter {
		lower := strings.ToLower(name)
		ours := slices.ContainsFunc(addedHeaders, func(added string) bool { return strings.EqualFold(added, name) })
		if !ours && !strings.HasPrefix(lower, "nats-") && !strings.HasPrefix(lower, strings.ToLower(headerOriginal)) && writable(name) {
			restored[name] = slices.Clone(values)
		}
	}
	return restored
}

// writable: the client refuses to send a message with any other name, though
// others may have published one (nats.go, header names after ADR-4).
func writable(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return !writableByte(r) }) < 0
}

func writableByte(r rune) bool {
	return r > ' ' && r < 0x7F && !strings.ContainsRune("\"()/,:;<=>?@[\\]{}", r)
}

func escaped(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if writableByte(rune(c)) && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// cutPayload is how much of a payload is kept that is too big to be kept whole.
const cutPayload = 64 << 10

// slimmer are the ways to store a letter, the first that the server takes being
// right: whole; without the message's own headers; and with a shortened payload.
// The message itself still stands in the stream of outcomes.
var slimmer = []func(letter *nats.Msg){
	func(*nats.Msg) {},
	omitHeaders,
	func(letter *nats.Msg) {
		letter.Header.Set(headerTruncated, strconv.Itoa(len(letter.Data)))
		letter.Data = letter.Data[:min(len(letter.Data), cutPayload)]
	},
}

// isSignature: without its publisher's signature a replay would not be trusted.
func isSignature(name string, values []string) bool {
	return strings.EqualFold(name, SignatureHeader) && len(values) == 1 && len(values[0]) <= 2*65+len("0x")
}

func omitHeaders(letter *nats.Msg) {
	ours, omitted := nats.Header{}, 0
	for name, values := range letter.Header {
		switch {
		case slices.Contains(addedHeaders, name) || name == headerReplay && len(values[0]) < 20 || isSignature(name, values):
			ours[name] = values[:1]
		case !strings.HasPrefix(name, "Nats-"): // those are of this publish
			omitted++
		}
	}
	ours.Set(headerOmitted, strconv.Itoa(omitted))
	letter.Header = ours
}
