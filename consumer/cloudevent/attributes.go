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

// contextAttributes are those that the specification names; all others are extensions.
var contextAttributes = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true,
	"datacontenttype": true, "dataschema": true, "subject": true, "time": true,
}

// isAttributeName checks the CloudEvents 1.0 naming convention: lower-case letters and
// digits.
func isAttributeName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

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
