package cloudevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"settled/settlement"
)

// readStructured reads an event whose payload is its JSON form (CloudEvents JSON event
// format 1.0). The data keeps its bytes. Decoding into a struct is unsuitable: it accepts
// names in any case and keeps the last of two equal ones.
func (ev *event) readStructured(payload []byte) {
	members, problem := objectMembers(payload)
	if problem != "" {
		ev.fail("the payload is no CloudEvent: %s", problem)
		return
	}
	members = withoutNullData(members)
	count := map[string]int{}
	for _, m := range members {
		count[m.name]++
	}
	for _, m := range members {
		switch {
		case count[m.name] > 1:
			ev.fail("the event's member %s occurs %d times", settlement.Quote(m.name), count[m.name])
		case m.name == "data":
			ev.data = m.raw
		case m.name == "data_base64":
			ev.decodeBase64(m.raw)
		case !isAttributeName(m.name):
			ev.fail("%s is no attribute name: want lower-case letters and digits", settlement.Quote(m.name))
		default:
			ev.setAttribute(m.name, m.raw)
		}
	}
	if count["data"] > 0 && count["data_base64"] > 0 {
		ev.data = nil
		ev.fail("both data and data_base64 are given: want one of them")
	}
	if count["specversion"]+count["data"]+count["data_base64"] == 0 && count["session_id"] == 1 {
		// The data was published without an event, but the failure can still name its session.
		ev.err = nil
		ev.fail("the payload is bare data: put it into the data of a CloudEvent with specversion, id, source and type")
		ev.data = payload
	}
}

type member struct {
	name string
	raw  json.RawMessage
}

func (m member) isNull() bool { return string(bytes.TrimSpace(m.raw)) == "null" }

// withoutNullData removes data or data_base64 if it is null and the other is given: some
// libraries write every member that an event can have.
func withoutNullData(members []member) []member {
	has := func(name string, null bool) bool {
		return slices.ContainsFunc(members, func(m member) bool { return m.name == name && (!null || m.isNull()) })
	}
	remove := ""
	switch {
	case has("data", false) && has("data_base64", true):
		remove = "data_base64"
	case has("data_base64", false) && has("data", true):
		remove = "data"
	}
	return slices.DeleteFunc(members, func(m member) bool { return m.name == remove && m.isNull() })
}

// objectMembers returns the members of a JSON object, in order, each value with its bytes,
// or says why the text is none. It does not recurse: the values are only scanned, by a
// scanner that bounds their depth.
func objectMembers(text []byte) (members []member, problem string) {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, "it is empty"
	case !utf8.Valid(text):
		return nil, "it is not UTF-8"
	case !json.Valid(text):
		return nil, "it is not JSON"
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if token, _ := dec.Token(); token != json.Delim('{') {
		return nil, "want a JSON object"
	}
	for dec.More() {
		token, err := dec.Token()
		name, isName := token.(string)
		m := member{name: name}
		if decodeErr := dec.Decode(&m.raw); err != nil || decodeErr != nil || !isName {
			return nil, "it is not JSON"
		}
		members = append(members, m)
	}
	return members, ""
}

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

// setAttribute stores the text form of an attribute's value: a string or, in an extension,
// a boolean or a 32-bit integer. A null attribute counts as absent.
func (ev *event) setAttribute(name string, raw json.RawMessage) {
	text := string(bytes.TrimSpace(raw))
	n, err := strconv.ParseInt(text, 10, 64)
	isInteger := err == nil && n >= math.MinInt32 && n <= math.MaxInt32 && !strings.HasPrefix(text, "+")
	switch {
	case text == "null":
	case text[0] == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			ev.fail("%s: not a string", name)
			return
		}
		ev.attributes[name] = s
	case contextAttributes[name]:
		ev.fail("%s: want a string", name)
	case text == "true" || text == "false" || isInteger:
		ev.attributes[name] = text
	default:
		ev.fail("%s: want a string, a boolean or a whole number of 32 bits", settlement.Quote(name))
	}
}

func (ev *event) decodeBase64(raw json.RawMessage) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		ev.fail("data_base64: want a string")
		return
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		ev.fail("data_base64: not base64")
		return
	}
	ev.data = data
}
