package settlement

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

const (
	sessionHex = "0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16"
	addrA      = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
	addrB      = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	addrJudge  = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	addrC      = "0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718"
	addrX      = "0xe1AB8145F7E55DC933d51a18c793F901A3A0b276"
)

func envelope(scenario, data string) Envelope {
	return Envelope{
		Subject: "outcome." + scenario, Type: "outcome." + scenario, Source: "/shop", ID: "1",
		Data: []byte(data), Payload: []byte(data), Stream: "OUTCOMES", Sequence: 7,
	}
}

func TestParseOutcomeRefuses(t *testing.T) {
	id := `"session_id":"` + sessionHex + `"`
	deep := strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200)
	awards := strings.TrimSuffix(strings.Repeat(`{"participant":"`+addrA+`","share":"0"},`, MaxAwards+1), ",")
	for name, c := range map[string]struct {
		data, says string
		readable   bool // the session can be read nevertheless
	}{
		"nothing":               {``, "missing", false},
		"no JSON":               {`{`, "not JSON", false},
		"no UTF-8":              {"{\"session_id\":\"\xff\"}", "not UTF-8", false},
		"byte order mark":       {"\xef\xbb\xbf{}", "not JSON", false},
		"half a surrogate":      {`{` + id + `,"x":"\ud800"}`, "surrogate", false},
		"no object":             {`[1]`, "want a JSON object", false},
		"too deep":              {`{` + id + `,"x":` + deep + `}`, "levels deep", false},
		"number out of range":   {`{` + id + `,"x":1e999}`, "range of a double", false},
		"no session":            {`{}`, "session id", false},
		"session no string":     {`{"session_id":7}`, "want a string", false},
		"session short":         {`{"session_id":"0x12"}`, "64 hex digits", false},
		"session without 0x":    {`{"session_id":"` + sessionHex[2:] + `00"}`, "64 hex digits", false},
		"session twice":         {`{` + id + `,` + id + `}`, "occurs twice", false},
		"name in another case":  {`{"Session_ID":"` + sessionHex + `"}`, `did you mean "session_id"?`, false},
		"session for its id":    {`{"Session":"` + sessionHex + `"}`, `data: unknown member "Session": did you mean "session_id"?`, false},
		"expect misspelt":       {`{` + id + `,"expct":{"totals":[]}}`, `data: unknown member "expct": did you mean "expect"?`, true},
		"first of two misspelt": {`{` + id + `,"reasno":"","awrads":[]}`, `unknown member "awrads": did you mean "awards"?`, true},
		"known and misspelt":    {`{` + id + `,"reason":"a","reasons":"b"}`, `unknown member "reasons": did you mean "reason"?`, true},
		"totals misspelt":       {`{` + id + `,"expect":{"Totals":[]}}`, `expect: unknown member "Totals": did you mean "totals"?`, true},
		"total's row misspelt":  {`{` + id + `,"expect":{"totals":[{"asset":"a","amont":"1"}]}}`, `expect.totals[0]: unknown member "amont": did you mean "amount"?`, true},
		"award misspelt":        {`{` + id + `,"awards":[{"particpiant":"` + addrA + `","share":"1"}]}`, `awards[0]: unknown member "particpiant": did you mean "participant"?`, true},
		"award unlike any":      {`{` + id + `,"awards":[{"winner":"` + addrA + `","share":"1"}]}`, `unknown member; known are ["participant"`, true},
		"name twice":            {`{` + id + `,"reason":"a","reason":"b"}`, "occurs twice", true},
		"name twice, deep":      {`{` + id + `,"x":[{"a":1,"a":1}]}`, "occurs twice", true},
		"parties no object":     {`{` + id + `,"parties":[]}`, "parties", true},
		"completion number":     {`{` + id + `,"completion":0.5}`, "decimal string", true},
		"completion above one":  {`{` + id + `,"completion":"1.000000001"}`, "above 1", true},
		"completion negative":   {`{` + id + `,"completion":"-0.5"}`, "no sign", true},
		"completion minus zero": {`{` + id + `,"completion":"-0"}`, "no sign", true},
		"completion exponent":   {`{` + id + `,"completion":"1e-1"}`, "exponent", true},
		"completion NaN":        {`{` + id + `,"completion":"NaN"}`, "decimal string", true},
		"completion point":      {`{` + id + `,"completion":".5"}`, "decimal string", true},
		"completion zeros":      {`{` + id + `,"completion":"00.5"}`, "leading zero", true},
		"completion long":       {`{` + id + `,"completion":"0.` + strings.Repeat("1", MaxDigits) + `"}`, "78 digits", true},
		"completion arabic":     {`{` + id + `,"completion":"٠.٥"}`, "decimal string", true},
		"awards no list":        {`{` + id + `,"awards":{}}`, "want a list", true},
		"awards too many":       {`{` + id + `,"awards":[` + awards + `]}`, "at most 1000", true},
		"awards below one":      {`{` + id + `,"awards":[{"participant":"` + addrA + `","share":"0.9"}]}`, "sum to 0.9", true},
		"awards mixed":          {`{` + id + `,"awards":[{"participant":"` + addrA + `","share":"1"},{"participant":"` + addrA + `","asset":"usdc","amount":"1"}]}`, "mixed", true},
		"award both":            {`{` + id + `,"awards":[{"participant":"` + addrA + `","share":"1","asset":"usdc"}]}`, "either share", true},
		"award unknown member":  {`{` + id + `,"awards":[{"participant":"` + addrA + `","share":"1","Share":"1"}]}`, "unknown member", true},
		"award amount number":   {`{` + id + `,"awards":[{"participant":"` + addrA + `","asset":"usdc","amount":1}]}`, "decimal string", true},
		"award bad address":     {`{` + id + `,"awards":[{"participant":"0x12","share":"1"}]}`, "40 hex digits", true},
		"expect unknown member": {`{` + id + `,"expect":{"total":[]}}`, "unknown member", true},
		"award checksum":        {`{` + id + `,"awards":[{"participant":"` + addrA[:41] + `e","share":"1"}]}`, "awards[0]: participant: address \"" + addrA[:41] + `e": its checksum (EIP-55`, true},
		"expect asset twice":    {`{` + id + `,"expect":{"totals":[{"asset":"a","amount":"1"},{"asset":"a","amount":"1"}]}}`, "is listed twice", true},
		"expect version text":   {`{` + id + `,"expect":{"version":"1"}}`, "whole number", true},
		"expect version point":  {`{` + id + `,"expect":{"version":1.0}}`, "whole number", true},
		"reference long":        {`{` + id + `,"reference":"` + strings.Repeat("x", MaxReference+1) + `"}`, "at most 256", true},
		"reason long":           {`{` + id + `,"reason":"` + strings.Repeat("x", MaxReason+1) + `"}`, "at most 4096", true},
		"evidence many":         {`{` + id + `,"evidence":[` + strings.Repeat(`"a",`, MaxEvidence) + `"a"]}`, "at most 32", true},
		"evidence long":         {`{` + id + `,"evidence":["` + strings.Repeat("x", MaxProof+1) + `"]}`, "at most 1024", true},
		"session data long":     {`{` + id + `,"session_data":"` + strings.Repeat("x", MaxSessionData+1) + `"}`, "at most 16384", true},
		"session data object":   {`{` + id + `,"session_data":{}}`, "session_data: want a string", true},
		"session data null":     {`{` + id + `,"session_data":null}`, "session_data: want a string", true},
		"signatures many":       {`{` + id + `,"signatures":[` + strings.Repeat(`"a",`, MaxSignatures) + `"a"]}`, "at most 64", true},
		"signature long":        {`{` + id + `,"signatures":["` + strings.Repeat("x", MaxSignature+1) + `"]}`, "at most 1024", true},
		"signatures no list":    {`{` + id + `,"signatures":"0x12"}`, "signatures: want a list", true},
		"evidence number":       {`{` + id + `,"evidence":[1]}`, "want a string", true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := ParseOutcome(envelope("cancellation", c.data))
			var f *Failure
			if !errors.As(err, &f) || f.Code != InvalidOutcome || o.Invalid != f {
				t.Fatalf("err = %v, Invalid = %v", err, o.Invalid)
			}
			if !strings.Contains(f.Message, c.says) {
				t.Errorf("message %q does not say %q", f.Message, c.says)
			}
			if got := o.Session != ""; got != c.readable {
				t.Errorf("session %q, readable should be %v", o.Session, c.readable)
			}
			if o.SessionData != nil || len(o.Signatures) > 0 {
				t.Error("an invalid outcome has session data or signatures")
			}
			if len(o.Reference) > MaxReference || len(o.Reason) > MaxReason || len(o.Evidence) > MaxEvidence {
				t.Error("what is too long is kept, and would be copied into the ledger")
			}
			if len(o.Ref.Digest) != 64 {
				t.Errorf("digest %q", o.Ref.Digest)
			}
		})
	}
}

func TestParseOutcomeEnvelope(t *testing.T) {
	e := envelope("cancellation", `{"session_id":"`+sessionHex+`"}`)
	e.Type = "outcome.game_completed"
	if _, err := ParseOutcome(e); err == nil || !strings.Contains(err.Error(), "does not match the subject") {
		t.Errorf("type: %v", err)
	}
	e = envelope("Nope", `{}`)
	if _, err := ParseOutcome(e); err == nil || !strings.Contains(err.Error(), "scenario") {
		t.Errorf("subject: %v", err)
	}
	e = envelope("cancellation", `{"session_id":"`+sessionHex+`"}`)
	e.Malformed = errors.New("no CloudEvent: id is missing")
	o, err := ParseOutcome(e)
	if err == nil || o.Session != sessionHex || o.Scenario != "cancellation" {
		t.Errorf("malformed: %v, session %q, scenario %q", err, o.Session, o.Scenario)
	}
}

func TestParseOutcomeReads(t *testing.T) {
	o, err := ParseOutcome(envelope("partial_service", `{
		"session_id":"0xCAEB884B5C79853A0C2C01FDEB6599F86D8703BE0BE03DD251DB6C053FA64C16",
		"parties":{"provider":"`+strings.ToLower(addrA)+`","winner":["`+addrA+`","`+addrB+`"],"unknown":7},
		"completion":"0.30","reference":"r","reason":"because","evidence":["e"],"new_member":{"x":[null,true],"expct":1},
		"session":{},"season":4,"person":"p","partner":"q","referee":"r","order_id":"o","amount":"1","total":"2","winner":"w",
		"expect":{"totals":[{"asset":"usdc","amount":"15.0"}],"version":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	if o.Session != sessionHex || o.Parties["provider"].Addresses[0].String() != addrA || len(o.Parties["winner"].Addresses) != 2 {
		t.Errorf("%+v", o)
	}
	if o.Completion.RatString() != "3/10" || *o.Expect.Version != 2 || o.Expect.Totals[0].Amount.String() != "15" {
		t.Errorf("%+v", o)
	}
}

// The result of a hostile outcome must not depend on the order in which a map is read, nor
// may reading it take long.
func TestManyMisspeltMembers(t *testing.T) {
	var data strings.Builder
	data.WriteString(`{"session_id":"` + sessionHex + `"`)
	for i := range 20_000 {
		fmt.Fprintf(&data, `,"expe%05d":0`, i)
	}
	data.WriteString(`,"` + strings.Repeat("reason", 10_000) + `":0`)
	if _, err := ParseOutcome(envelope("cancellation", data.String()+`}`)); err != nil {
		t.Error(err)
	}
	for range 5 {
		_, err := ParseOutcome(envelope("cancellation", data.String()+`,"reasonn":0,"partise":0,"evidnce":0}`))
		if err == nil || !strings.Contains(err.Error(), `"evidnce"`) {
			t.Error(err)
		}
	}
}

// Without session data the node's stays unchanged; empty session data replaces it.
func TestParseOutcomeSessionData(t *testing.T) {
	data := func(member string) Outcome {
		o, err := ParseOutcome(envelope("cancellation", `{"session_id":"`+sessionHex+`"`+member+`}`))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	none, empty, most := data(""), data(`,"session_data":""`), data(`,"session_data":"`+strings.Repeat("x", MaxSessionData)+`","signatures":["0xAb","",""]`)
	if none.SessionData != nil || empty.SessionData == nil || *empty.SessionData != "" || len(*most.SessionData) != MaxSessionData {
		t.Errorf("%v %v %v", none.SessionData, empty.SessionData, most.SessionData)
	}
	if none.Ref.Digest == empty.Ref.Digest || len(none.Signatures) != 0 || len(most.Signatures) != 3 || most.Signatures[0] != "0xAb" {
		t.Errorf("%q", most.Signatures)
	}
}

// Members in any order, and white space, are the same outcome; other data is another.
func TestDigestIsOfTheValue(t *testing.T) {
	digest := func(data string) string {
		o, _ := ParseOutcome(envelope("cancellation", data))
		return o.Ref.Digest
	}
	a := digest(`{"session_id":"` + sessionHex + `","reason":"\u00e9","n":[1.0,1e2]}`)
	b := digest("{ \"n\":[1,100.0],\n \"reason\":\"é\",\"session_id\":\"" + sessionHex + `"}`)
	if a != b {
		t.Error("the same value has two digests")
	}
	if a == digest(`{"session_id":"`+sessionHex+`","reason":"e","n":[1.0,1e2]}`) {
		t.Error("another value has the same digest")
	}
}

// The examples of RFC 8785: section 3.2.2, appendix B and section 3.2.3.
func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`: "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
		`[-0, 0.0, 1e21, 123456789012345680000, 1e-7, 0.000001, -5e-324, 1.7976931348623157e308]`:                                                                             `[0,0,1e+21,123456789012345680000,1e-7,0.000001,-5e-324,1.7976931348623157e+308]`,
		`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`:                                                                                         "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}",
	} {
		got, err := Canonical([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s %v\nwant %s", in, got, err, want)
		}
	}
}

func FuzzParseOutcome(f *testing.F) {
	f.Add("cancellation", []byte(`{"session_id":"`+sessionHex+`"}`))
	f.Add("game_completed", []byte(`{"session_id":"`+sessionHex+`","parties":{"winner":["`+addrA+`"]},"awards":[{"participant":"`+addrA+`","share":"1"}],"expect":{"totals":[],"version":1}}`))
	f.Add("cancellation", []byte(`{"session_id":"`+sessionHex+`","session_data":"{}","signatures":["0x12"],"parties":{"funder":"`+addrA+`"}}`))
	f.Add("x", []byte(`{"a":"\ud83d\ude00\ud800"}`))
	f.Fuzz(func(t *testing.T, scenario string, data []byte) {
		o, err := ParseOutcome(envelope(scenario, string(data)))
		if (err == nil) != (o.Invalid == nil) || err == nil && o.Session == "" {
			t.Fatalf("%v %+v", err, o)
		}
		if err != nil {
			return
		}
		again, err := Canonical(data)
		if err != nil {
			t.Fatalf("parsed, but has no canonical form: %v", err)
		}
		twin, err := ParseOutcome(envelope(scenario, string(again)))
		if err != nil || twin.Ref.Digest != o.Ref.Digest {
			t.Fatalf("the canonical form is another outcome: %v", err)
		}
	})
}

func TestQuoteCuts(t *testing.T) {
	if got := Quote(strings.Repeat("a", 1<<20)); len(got) > 200 {
		t.Errorf("%d bytes", len(got))
	}
	if got := fmt.Sprint(Quote("a\nb")); strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
}

// The error of an invalid text is stored in the ledger: it is short and printable, whatever
// the text contains.
func TestErrorsOfHostileJSONAreShort(t *testing.T) {
	long := strings.Repeat("x\u2028\x7f", 100_000)
	for _, text := range []string{
		`{"` + long + `":`, `{"` + long + `":{"` + long + `":[tru`, `{"a":"` + strings.Repeat(`\ud800`, 100_000) + `"}`,
		`{"` + long + `":1,"` + long + `":2}`, `{"a":"\` + long + `"}`, `{"a":` + strings.Repeat("9", 100_000) + `}`, long, `{"a":1` + long,
	} {
		_, err := ParseOutcome(envelope("cancellation", text))
		if err == nil || len(err.Error()) > 1<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%.20q: %d bytes, %.300q", text, len(fmt.Sprint(err)), fmt.Sprint(err))
		}
	}
}
