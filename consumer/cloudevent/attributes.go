package cloudevent

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"settled/settlement"
)

// maxAttribute is the maximum length of source, id and type in bytes. They are copied into
// every entry and every log event of the outcome.
const maxAttribute = 1 << 10

// validate checks the attributes by CloudEvents 1.0, and the length of those that are
// recorded.
func (ev *event) validate() error {
	if v := ev.attributes["specversion"]; v != "1.0" {
		return fmt.Errorf("specversion %s: want \"1.0\"", settlement.Quote(v))
	}
	for _, name := range slices.Sorted(maps.Keys(ev.attributes)) {
		if err := validateText(ev.attributes[name]); err != nil {
			return fmt.Errorf("%s: %w", settlement.Quote(name), err)
		}
	}
	var errs []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Sprintf(format, args...))
		}
	}
	isBlank := func(s string) bool { return strings.TrimSpace(s) == "" }
	for _, name := range []string{"id", "source", "type"} {
		value := ev.attributes[name]
		check(!isBlank(value), "%s: must not be empty", name)
		check(len(value) <= maxAttribute, "%s: %d bytes, at most %d are allowed", name, len(value), maxAttribute)
	}
	if source, err := url.Parse(ev.attributes["source"]); err != nil {
		check(false, "source: want a URI reference: %v", err)
	} else if !isBlank(ev.attributes["source"]) {
		check(!isBlank(source.String()), "source: must not be empty")
	}
	if value := strings.TrimSpace(ev.attributes["datacontenttype"]); value != "" {
		_, _, err := mime.ParseMediaType(value)
		check(err == nil, "datacontenttype %s: want a media type: %v", settlement.Quote(value), err)
	}
	if value := strings.TrimSpace(ev.attributes["dataschema"]); value != "" {
		schema, err := url.Parse(value)
		check(err == nil && schema.IsAbs(), "dataschema %s: want an absolute URI", settlement.Quote(value))
	}
	if value, given := ev.attributes["subject"]; given {
		check(!isBlank(value), "subject: is empty: leave it out or fill it")
	}
	if value, given := ev.attributes["time"]; given {
		_, err := time.Parse(time.RFC3339Nano, value)
		check(err == nil, "time %s: want RFC 3339", settlement.Quote(value))
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, "; "))
	}
	return nil
}

// validateText refuses what a CloudEvents string can't contain. It also refuses U+FFFD, to
// which a JSON decoder converts half a surrogate pair, so that two different sources would
// be read as one.
func validateText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	for _, r := range s {
		nonCharacter := r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE
		if unicode.IsControl(r) || nonCharacter || r == utf8.RuneError {
			return fmt.Errorf("contains %U, which no CloudEvents attribute may contain", r)
		}
	}
	return nil
}

// truncate returns an attribute as the envelope has it. validate has refused one that is
// too long or not UTF-8.
func truncate(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxAttribute)], "")
}

// traceContext returns the trace context of the event or else of the message. What does
// not have the form of W3C Trace Context is left out.
func traceContext(ev *event, h foldedHeader) (parent, state string) {
	if parent = ev.attributes["traceparent"]; isTraceparent(parent) {
		return parent, ev.attributes["tracestate"]
	}
	parent, _, err := h.get("traceparent")
	if err != nil || !isTraceparent(parent) {
		return "", ""
	}
	state, _, _ = h.get("tracestate") // empty if it occurs twice
	return parent, state
}

// isTraceparent checks W3C Trace Context, section 3.2.2. Ids of zeros only, and version
// ff, are not valid.
func isTraceparent(s string) bool {
	fields := strings.Split(s, "-")
	if len(fields) != 4 || len(s) != 55 || len(fields[0]) != 2 || len(fields[1]) != 32 || len(fields[2]) != 16 {
		return false
	}
	zeros := strings.Trim(fields[1], "0") == "" || strings.Trim(fields[2], "0") == ""
	return fields[0] != "ff" && !zeros && strings.Trim(s, "0123456789abcdef-") == "" && utf8.ValidString(s)
}
