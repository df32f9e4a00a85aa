package consumer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// readStructured reads an event whose payload is its JSON form (CloudEvents JSON
// event format 1.0). The data keeps its bytes. encoding/json into a struct won't
// do: it takes names in any case and keeps the last of two equal ones.
func readStructured(payload []byte) *event {
	ev := newEvent()
	members, err := objectMembers(payload)
	if err != "" {
		ev.fail("the payload is no CloudEvent: %s", err)
		return ev
	}
	members = withoutNullData(members)
	seen := map[string]int{}
	for _, m := range members {
		seen[m.name]++
	}
	for _, m := range members {
		if seen[m.name] > 1 {
			ev.fail("the event's member %s stands %d times", brief(m.name), seen[m.name])
			continue
		}
		ev.member(m)
	}
	if seen["data"] > 0 && seen["data_base64"] > 0 {
		ev.data = nil
		ev.fail("both data and data_base64 are given: want one of them")
	}
	ev.bare(members, payload, seen)
	return ev
}

// withoutNullData leaves out which of data and data_base64 is null beside the other:
// some libraries write every member that an event could have.
func withoutNullData(members []member) []member {
	absent := func(name string) bool {
		return slices.ContainsFunc(members, func(m member) bool { return m.name == name && string(bytes.TrimSpace(m.raw)) == "null" })
	}
	drop := ""
	switch {
	case !slices.ContainsFunc(members, func(m member) bool { return m.name == "data" }):
	case absent("data_base64"):
		drop = "data_base64"
	case absent("data") && slices.ContainsFunc(members, func(m member) bool { return m.name == "data_base64" }):
		drop = "data"
	}
	return slices.DeleteFunc(members, func(m member) bool { return m.name == drop && string(bytes.TrimSpace(m.raw)) == "null" })
}

type member struct {
	name string
	raw  json.RawMessage
}

// objectMembers are the members of a JSON object, in order, each value with its
// bytes. err is empty where it is one. No recursion: what is inside a value is
// only scanned, by a scanner that bounds depth itself.
func objectMembers(text []byte) (members []member, err string) {
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
		token, tokenErr := dec.Token()
		name, isName := token.(string)
		var m member
		if decodeErr := dec.Decode(&m.raw); tokenErr != nil || decodeErr != nil || !isName {
			return nil, "it is not JSON"
		}
		m.name = name
		members = append(members, m)
	}
	return members, ""
}

func (ev *event) member(m member) {
	switch {
	case m.name == "data":
		ev.data = m.raw
	case m.name == "data_base64":
		ev.base64(m.raw)
	case !isAttributeName(m.name):
		ev.fail("%s is no attribute name: want lower-case letters and digits", brief(m.name))
	default:
		ev.attribute(m.name, m.raw)
	}
}

func (ev *event) base64(raw json.RawMessage) {
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

// attribute takes the value of an attribute in its text form: a string, or, of an
// extension, a boolean or a 32-bit integer. Null means that it isn't there.
func (ev *event) attribute(name string, raw json.RawMessage) {
	text := string(bytes.TrimSpace(raw))
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
	case text == "true" || text == "false" || isInteger(text):
		ev.attributes[name] = text
	default:
		ev.fail("%s: want a string, a boolean or a whole number of 32 bits", brief(name))
	}
}

func isInteger(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n >= math.MinInt32 && n <= math.MaxInt32 && !strings.HasPrefix(text, "+")
}

// bare finds data that was published without an event around it: no event, but
// the session it speaks of can be told, and its failure be found there.
func (ev *event) bare(members []member, payload []byte, seen map[string]int) {
	if seen["specversion"] == 0 && seen["data"] == 0 && seen["data_base64"] == 0 && seen["session_id"] == 1 {
		ev.err = nil
		ev.fail("the payload is bare data: put it into the data of a CloudEvent with specversion, id, source and type")
		ev.data = payload
	}
}
