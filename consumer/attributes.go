package consumer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// contextAttributes are those the specification names; all others are extensions.
var contextAttributes = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true,
	"datacontenttype": true, "dataschema": true, "subject": true, "time": true,
}

// isAttributeName: lower-case letters and digits (CloudEvents 1.0, "Naming conventions").
func isAttributeName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// validate holds the attributes to CloudEvents 1.0: by the SDK what the SDK
// checks, here what it lets pass (text that can't stand in a JSON string both
// ways, times, and sizes).
func (ev *event) validate() error {
	if v := ev.attributes["specversion"]; v != cloudevents.CloudEventsVersionV1 {
		return fmt.Errorf("specversion %s: want \"1.0\"", brief(v))
	}
	for _, name := range slices.Sorted(maps.Keys(ev.attributes)) {
		if err := checkText(ev.attributes[name]); err != nil {
			return fmt.Errorf("%s: %w", brief(name), err)
		}
	}
	for _, name := range []string{"source", "id", "type"} {
		if n := len(ev.attributes[name]); n > mostAttribute {
			return fmt.Errorf("%s: %d bytes, at most %d are allowed", name, n, mostAttribute)
		}
	}
	return ev.validateBySDK()
}

func (ev *event) validateBySDK() error {
	e := cloudevents.New(cloudevents.CloudEventsVersionV1)
	for _, name := range slices.Sorted(maps.Keys(ev.attributes)) {
		value := ev.attributes[name]
		switch name {
		case "specversion":
		case "id":
			e.SetID(value)
		case "source":
			e.SetSource(value)
		case "type":
			e.SetType(value)
		case "datacontenttype":
			e.SetDataContentType(value)
		case "dataschema":
			e.SetDataSchema(value)
		case "subject":
			if strings.TrimSpace(value) == "" { // the SDK takes this for "not there"
				return errors.New("subject: is empty: leave it out or fill it")
			}
			e.SetSubject(value)
		case "time":
			if _, err := types.ParseTime(value); err != nil {
				return fmt.Errorf("time %s: want RFC 3339", brief(value))
			}
		default:
			e.SetExtension(name, value)
		}
	}
	return inOrder(e.Validate())
}

// inOrder gives the SDK's errors a fixed order: they are recorded.
func inOrder(err error) error {
	var found cloudevents.ValidationError
	if !errors.As(err, &found) {
		return err
	}
	texts := make([]string, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		texts = append(texts, fmt.Sprintf("%s: %s", name, found[name]))
	}
	return errors.New(strings.Join(texts, "; "))
}

// checkText refuses what a CloudEvents string can't hold. U+FFFD is refused too:
// it is what a JSON reader makes of half a surrogate pair, so that two different
// sources would read as one.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	for _, r := range s {
		nonCharacter := r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE
		if unicode.IsControl(r) || nonCharacter || r == utf8.RuneError {
			return fmt.Errorf("holds %U, which no CloudEvents attribute may hold", r)
		}
	}
	return nil
}
