package cloudevent

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

const (
	testSession = "0xabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"
	testData    = `{"session_id": "` + testSession + `", "reference":"r"}`
	testParent  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func header(pairs ...string) nats.Header {
	h := nats.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func structured(extra string) string {
	return `{"specversion":"1.0","id":"e-1","source":"/orders/ü a","type":"outcome.cancellation"` + extra + `,"data": ` + testData + ` }`
}

func read(h nats.Header, payload string) settlement.Envelope {
	return Read("prod.outcome.cancellation", h, []byte(payload), "PROD_OUTCOMES", 7, "prod.")
}

// Both modes of one event, and every way to write either, give the same outcome.
func TestReadEnvelopeTakesBothModes(t *testing.T) {
	binary := func(pairs ...string) nats.Header {
		return header(append([]string{"ce-specversion", "1.0", "ce-id", "e-1", "ce-source", "/orders/%C3%BC%20a", "ce-type", "outcome.cancellation"}, pairs...)...)
	}
	for name, c := range map[string]struct {
		h       nats.Header
		payload string
	}{
		"structured, no header":            {nil, structured("")},
		"structured, content type":         {header("content-type", "application/cloudevents+json"), structured("")},
		"structured, other case, charset":  {header("Content-Type", "Application/CloudEvents+JSON; charset=UTF-8"), structured("")},
		"structured, short content type":   {header("CONTENT-TYPE", "application/cloudevents"), structured("")},
		"structured, with ce- copies":      {header("content-type", "application/cloudevents+json", "ce-specversion", "1.0", "ce-id", "another"), structured("")},
		"structured, unrelated headers":    {header("Nats-Msg-Id", "x", "X-Y", "z"), structured("")},
		"structured, all attributes":       {nil, structured(`,"time":"2026-01-02T03:04:05.6Z","subject":"s","dataschema":"https://a.example/b","datacontenttype":"application/json","myext":"v","n":7,"b":true,"gone":null`)},
		"structured, data_base64 is null":  {nil, structured(`,"data_base64":null`)},
		"structured, data is null":         {nil, strings.Replace(structured(""), `"data": `+testData, `"data":null,"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(testData))+`"`, 1)},
		"structured, base64":               {nil, strings.Replace(structured(""), `"data": `+testData, `"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(testData))+`"`, 1)},
		"structured, escaped name":         {nil, strings.Replace(structured(""), `"id"`, `"\u0069d"`, 1)},
		"binary":                           {binary(), testData},
		"binary, content type":             {binary("content-type", "application/json"), testData},
		"binary, other case":               {header("CE-SpecVersion", "1.0", "Ce-Id", "e-1", "ce-SOURCE", "/orders/ü%20a", "cE-tYpE", "outcome.cancellation", "Content-Type", "application/json"), testData},
		"binary, all percent":              {header("ce-specversion", "%31.0", "ce-id", "%65-1", "ce-source", "/orders/%c3%bc a", "ce-type", "outcome.cancellation"), testData},
		"binary, spaces around":            {header("ce-specversion", "1.0 ", "ce-id", "e-1\t", "ce-source", " /orders/%C3%BC%20a", "ce-type", "outcome.cancellation"), testData},
		"binary, time, subject, extension": {binary("ce-time", "2026-01-02T03:04:05Z", "ce-subject", "s%25", "ce-myext", "v"), testData},
	} {
		t.Run(name, func(t *testing.T) {
			e := read(c.h, c.payload)
			if e.Malformed != nil {
				t.Fatalf("malformed: %v", e.Malformed)
			}
			if e.Source != "/orders/ü a" || e.ID != "e-1" || e.Type != "outcome.cancellation" || string(e.Data) != testData {
				t.Errorf("got source %q id %q type %q data %s", e.Source, e.ID, e.Type, e.Data)
			}
			if e.Subject != "outcome.cancellation" || e.Stream != "PROD_OUTCOMES" || e.Sequence != 7 || string(e.Payload) != c.payload {
				t.Errorf("got subject %q stream %q sequence %d payload %q", e.Subject, e.Stream, e.Sequence, e.Payload)
			}
			if o, err := settlement.ParseOutcome(e); err != nil || o.Session != testSession {
				t.Errorf("outcome: session %q, %v", o.Session, err)
			}
		})
	}
}

// A message that is no CloudEvent is malformed, and its session is still found.
func TestReadEnvelopeMalformed(t *testing.T) {
	swap := func(old, new string) string { return strings.Replace(structured(""), old, new, 1) }
	ce := func(pairs ...string) nats.Header {
		return header(append([]string{"ce-specversion", "1.0"}, pairs...)...)
	}
	whole := []string{"ce-id", "1", "ce-source", "/s", "ce-type", "outcome.cancellation"}
	for name, c := range map[string]struct {
		h       nats.Header
		payload string
		want    string // in the message
		session bool   // can be found
	}{
		"empty":                        {nil, "", "empty", false},
		"spaces":                       {nil, "  ", "empty", false},
		"not JSON":                     {nil, "{", "not JSON", false},
		"two values":                   {nil, structured("") + "{}", "not JSON", false},
		"a list":                       {nil, "[]", "JSON object", false},
		"a string":                     {nil, `"x"`, "JSON object", false},
		"null":                         {nil, `null`, "JSON object", false},
		"not UTF-8":                    {nil, swap("e-1", "\xff"), "UTF-8", false},
		"nested without end":           {nil, strings.Repeat("[", 100000), "not JSON", false},
		"nested too deep":              {nil, strings.Repeat("[", 20000) + strings.Repeat("]", 20000), "not JSON", false},
		"batch":                        {header("content-type", "application/cloudevents-batch+json"), "[" + structured("") + "]", "batch", false},
		"other content type":           {header("content-type", "application/json"), structured(""), "content-type", true},
		"other content type, bare":     {header("content-type", "application/json"), testData, "content-type", true},
		"content type twice":           {header("content-type", "application/json", "Content-Type", "application/cloudevents+json"), structured(""), "2 times", true},
		"bare data":                    {nil, testData, "bare data", true},
		"no specversion":               {nil, swap(`"specversion":"1.0",`, ""), "specversion", true},
		"specversion 0.3":              {nil, swap(`"1.0"`, `"0.3"`), "specversion", true},
		"specversion a number":         {nil, swap(`"1.0"`, `1.0`), "specversion", true},
		"no id":                        {nil, swap(`"id":"e-1",`, ""), "id: ", true},
		"empty id":                     {nil, swap(`e-1`, ""), "id: ", true},
		"id null":                      {nil, swap(`"e-1"`, "null"), "id: ", true},
		"id a number":                  {nil, swap(`"e-1"`, "1"), "id: want a string", true},
		"id with NUL":                  {nil, swap(`e-1`, `e\u0000`), "U+0000", true},
		"id half a surrogate":          {nil, swap(`e-1`, `\ud800`), "U+FFFD", true},
		"id too long":                  {nil, swap(`e-1`, strings.Repeat("e", 1025)), "1025 bytes", true},
		"no source":                    {nil, swap(`"source":"/orders/ü a",`, ""), "source: ", true},
		"source no URI":                {nil, swap(`/orders/ü a`, "http://[::1"), "source: ", true},
		"no type":                      {nil, swap(`,"type":"outcome.cancellation"`, ""), "type: ", true},
		"Source":                       {nil, swap(`"source"`, `"Source"`), "no attribute name", true},
		"name with underscore":         {nil, structured(`,"my_ext":"v"`), "no attribute name", true},
		"empty name":                   {nil, structured(`,"":"v"`), "no attribute name", true},
		"extension an object":          {nil, structured(`,"ext":{}`), "ext", true},
		"extension a fraction":         {nil, structured(`,"ext":1.5`), "ext", true},
		"extension too big a number":   {nil, structured(`,"ext":2147483648`), "ext", true},
		"time":                         {nil, structured(`,"time":"yesterday"`), "RFC 3339", true},
		"empty subject":                {nil, structured(`,"subject":""`), "subject", true},
		"dataschema relative":          {nil, structured(`,"dataschema":"x"`), "dataschema", true},
		"datacontenttype":              {nil, structured(`,"datacontenttype":"a/b/c"`), "datacontenttype", true},
		"id twice":                     {nil, structured(`,"id":"e-2"`), "occurs 2 times", true},
		"extension twice":              {nil, structured(`,"ext":"1","ext":"1"`), "occurs 2 times", true},
		"data twice":                   {nil, structured(`,"data":{}`), "occurs 2 times", false},
		"data and data_base64":         {nil, structured(`,"data_base64":""`), "both", false},
		"data_base64 no base64":        {nil, swap(`"data": `+testData, `"data_base64":"*"`), "base64", false},
		"data_base64 no string":        {nil, swap(`"data": `+testData, `"data_base64":1`), "want a string", false},
		"binary, no id":                {ce("ce-source", "/s", "ce-type", "outcome.cancellation"), testData, "id: ", true},
		"binary, bad percent":          {ce("ce-id", "50%", "ce-source", "/s", "ce-type", "outcome.cancellation"), testData, "percent", true},
		"binary, id twice":             {ce(append(whole, "CE-ID", "2")...), testData, "2 times", true},
		"binary, specversion twice":    {ce(append(whole, "CE-SpecVersion", "1.0")...), testData, "2 times", true},
		"binary, version 2":            {header("ce-specversion", "2.0"), testData, "specversion", true},
		"binary, decoded to not UTF-8": {ce("ce-id", "%ff", "ce-source", "/s", "ce-type", "outcome.cancellation"), testData, "UTF-8", true},
		"binary, decoded to newline":   {ce("ce-id", "a%0Ab", "ce-source", "/s", "ce-type", "outcome.cancellation"), testData, "U+000A", true},
		"binary, name with underscore": {ce(append(whole, "ce-my_ext", "2")...), testData, "no attribute", true},
		"binary, no name":              {ce(append(whole, "ce-", "2")...), testData, "no attribute", true},
		"binary, ce-data":              {ce(append(whole, "ce-data", "2")...), testData, "no attribute", true},
		"binary, content type":         {ce(append(whole, "content-type", "a/b/c")...), testData, "datacontenttype", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := read(c.h, c.payload)
			if e.Malformed == nil || !strings.Contains(e.Malformed.Error(), c.want) {
				t.Fatalf("malformed: %v, want %q in it", e.Malformed, c.want)
			}
			o, err := settlement.ParseOutcome(e)
			if err == nil || o.Invalid == nil {
				t.Error("the outcome is valid")
			}
			if (o.Session != "") != c.session {
				t.Errorf("session %q, want it found: %t", o.Session, c.session)
			}
		})
	}
}

func TestReadEnvelopeKeepsWhatItCanOfALongAttribute(t *testing.T) {
	e := read(nil, strings.Replace(structured(""), "e-1", strings.Repeat("ü", 100000), 1))
	if e.Malformed == nil || len(e.ID) > maxAttribute || !strings.HasPrefix(e.ID, "üü") {
		t.Errorf("malformed %v, id of %d bytes: want it refused, and cut to %d", e.Malformed, len(e.ID), maxAttribute)
	}
}

func TestTraceparent(t *testing.T) {
	other := strings.Replace(testParent, "01", "00", 1)
	for name, c := range map[string]struct {
		h       nats.Header
		payload string
		want    string
	}{
		"none":                  {nil, structured(""), ""},
		"extension":             {nil, structured(`,"traceparent":"` + testParent + `"`), testParent},
		"header":                {header("Traceparent", testParent), structured(""), testParent},
		"extension over header": {header("traceparent", other), structured(`,"traceparent":"` + testParent + `"`), testParent},
		"binary":                {header("ce-specversion", "1.0", "ce-traceparent", testParent), testData, testParent},
		"version ff":            {header("traceparent", "ff"+testParent[2:]), structured(""), ""},
		"no trace id":           {header("traceparent", "00-"+strings.Repeat("0", 32)+testParent[35:]), structured(""), ""},
		"no trace context":      {header("traceparent", "evil\nheader"), structured(`,"traceparent":"x"`), ""},
	} {
		if e := read(c.h, c.payload); e.Traceparent != c.want {
			t.Errorf("%s: %q, want %q", name, e.Traceparent, c.want)
		}
	}
}

// The trace state belongs to the trace context that is used.
func TestTracestate(t *testing.T) {
	for name, c := range map[string]struct {
		h       nats.Header
		payload string
		want    string
	}{
		"extension":         {header("tracestate", "b=2"), structured(`,"traceparent":"` + testParent + `","tracestate":"a=1"`), "a=1"},
		"header":            {header("traceparent", testParent, "tracestate", "b=2"), structured(`,"tracestate":"a=1"`), "b=2"},
		"extension without": {header("traceparent", testParent, "tracestate", "b=2"), structured(`,"traceparent":"` + testParent + `"`), ""},
		"binary":            {header("ce-specversion", "1.0", "ce-traceparent", testParent, "ce-tracestate", "a=1"), testData, "a=1"},
		"nothing to go by":  {header("tracestate", "b=2"), structured(""), ""},
	} {
		if e := read(c.h, c.payload); e.Tracestate != c.want {
			t.Errorf("%s: %q, want %q", name, e.Tracestate, c.want)
		}
	}
}

// Any bytes give an envelope that ParseOutcome accepts; a valid structured event gives the
// same outcome in binary mode.
func FuzzReadEnvelope(f *testing.F) {
	f.Add("", "", "", "", structured(""))
	f.Add("content-type", "application/cloudevents+json", "", "", structured(`,"traceparent":"`+testParent+`"`))
	f.Add("ce-specversion", "1.0", "ce-id", "%41", testData)
	f.Add("Content-Type", "application/json", "ce-specversion", "1.0", testData)
	f.Add("", "", "", "", `{"data":{},"data":1,"data_base64":"e30="}`)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, payload string) {
		e := read(header(k1, v1, k2, v2), payload)
		o, err := settlement.ParseOutcome(e)
		if e.Malformed != nil && err == nil {
			t.Fatal("malformed, but a valid outcome")
		}
		if string(e.Payload) != payload || len(e.ID) > maxAttribute || len(e.Source) > maxAttribute || len(e.Type) > maxAttribute {
			t.Fatal("payload changed, or an attribute beyond its bound")
		}
		if err != nil || len(e.Data) == 0 {
			return
		}
		b := read(header("ce-specversion", "1.0", "ce-id", escapeAttribute(e.ID), "ce-source", escapeAttribute(e.Source), "ce-type", escapeAttribute(e.Type)), string(e.Data))
		if ob, err := settlement.ParseOutcome(b); err != nil || !ob.Ref.Same(o.Ref) {
			t.Fatalf("in binary mode: %+v (%v), structured: %+v", ob.Ref, err, o.Ref)
		}
	})
}

// escapeAttribute percent-encodes every byte.
func escapeAttribute(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])))
	}
	return b.String()
}
