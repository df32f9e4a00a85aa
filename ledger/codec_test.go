package ledger_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"

	"github.com/cloudevents/sdk-go/v2/event"
)

// goldenLedger is a ledger whose clock and randomness are fixed.
func goldenLedger(mem *ledgertest.Stream, prefix string) *ledger.Ledger {
	cfg := config()
	cfg.Prefix, cfg.RandomFunc = prefix, counter()
	now := time.Date(2030, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600))
	cfg.NowFunc = func() time.Time { now = now.Add(time.Second); return now }
	return ledger.New(mem, cfg)
}

// story is one entry of every kind, with every member that it can have.
func story(t testing.TB, prefix string) []ledger.Message {
	t.Helper()
	mem := &ledgertest.Stream{}
	l, id, o := goldenLedger(mem, prefix), session(1), outcome("order-1")
	intent := closing(id, o, 1)
	intent.Reference, intent.Reason, intent.Traceparent = "invoice 7", "paid <in full> & \"on time\"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	intent.BaseVersion = ptr(uint64(2))
	head := mustAppend(t, l, settlement.Head{Session: id}, intent)
	loser := failed(head, id, outcome("order-2"), 0)
	loser.Evidence = []string{"receipt 1", "receipt 2"}
	head = mustAppend(t, l, head, loser)
	result := closed(id, o, 1)
	result.Reference, result.Reason, result.Evidence = intent.Reference, intent.Reason, []string{"receipt 3"}
	mustAppend(t, l, head, result)
	unknown := failed(settlement.Head{}, "", outcome("order-3"), 0)
	unknown.Standing, unknown.Scenario = nil, ""
	mustAppend(t, l, settlement.Head{}, unknown)
	return mem.Messages()
}

var storyNames = []string{"closing", "failed", "closed", "unknown"}

// TestGolden holds the stored bytes to files that a reader can compare with the
// contract. Run with -update to write them again, and read the difference.
func TestGolden(t *testing.T) {
	for i, m := range story(t, "") {
		var pretty bytes.Buffer
		natstest.OK(t, json.Indent(&pretty, m.Payload, "", "  "))
		pretty.WriteByte('\n')
		file := filepath.Join("testdata", storyNames[i]+".json")
		if *update {
			natstest.OK(t, os.WriteFile(file, pretty.Bytes(), 0o644))
		}
		want := natstest.Must(os.ReadFile(file))
		if !bytes.Equal(pretty.Bytes(), want) {
			t.Errorf("%s: stored is\n%s\nwant\n%s", file, pretty.Bytes(), want)
		}
	}
}

// TestMembers holds every kind of entry to the contract's table of members.
func TestMembers(t *testing.T) {
	all := []string{"session_id", "scenario", "reference", "reason", "outcome", "standing", "attempt", "attempt_id", "previous"}
	want := map[string][]string{
		"closing": append([]string{"policy", "allocations", "request", "valid_until", "base_version"}, all...),
		"closed":  append([]string{"evidence", "policy", "allocations", "session_version", "node", "recovered"}, all...),
		"failed":  {"evidence", "error", "dead_letter", "session_id", "scenario", "outcome", "standing", "attempt", "attempt_id", "previous"},
		"unknown": {"error", "dead_letter", "session_id", "scenario", "outcome", "attempt", "attempt_id"},
	}
	for i, m := range story(t, "") {
		var got struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		natstest.OK(t, json.Unmarshal(m.Payload, &got))
		for _, name := range want[storyNames[i]] {
			if _, ok := got.Data[name]; !ok {
				t.Errorf("%s has no %s", storyNames[i], name)
			}
			delete(got.Data, name)
		}
		for name := range got.Data {
			t.Errorf("%s has %s", storyNames[i], name)
		}
	}
}

func TestIsCloudEvent(t *testing.T) {
	for i, m := range story(t, "prod.") {
		var e event.Event
		natstest.OK(t, json.Unmarshal(m.Payload, &e))
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", storyNames[i], err)
		}
		entry := natstest.Must(ledger.ParseEntry(m.Subject, m.Payload, m.Sequence))
		if e.Type() != "settlement."+string(entry.State) || e.Source() != "/settled/PROD_SETTLEMENTS" || !e.Time().Equal(entry.Time) || e.Subject() != entry.Session.Token() {
			t.Errorf("%s: type %s, source %s, time %s, subject %s", storyNames[i], e.Type(), e.Source(), e.Time(), e.Subject())
		}
	}
}

func TestParseEntryReadsWhatWasAppended(t *testing.T) {
	for i, m := range story(t, "prod.eu.") {
		if want := "prod.eu.settlement."; !strings.HasPrefix(m.Subject, want) {
			t.Errorf("subject %s, want %s…", m.Subject, want)
		}
		e := natstest.Must(ledger.ParseEntry(m.Subject, m.Payload, m.Sequence))
		again, err := ledger.Encode("prod.eu.", e)
		if err != nil || !bytes.Equal(again, m.Payload) {
			t.Errorf("%s: read and written again it is\n%s, %v\nwant\n%s", storyNames[i], again, err, m.Payload)
		}
	}
}

// TestParseEntryRefuses alters good entries, one thing at a time.
func TestParseEntryRefuses(t *testing.T) {
	messages := story(t, "")
	id1, id2 := string(session(1)), string(session(2))
	for _, c := range []struct {
		it         string
		of         int
		old, with  string
		subject    string // instead of the entry's own
		acceptable bool
	}{
		{it: "nothing", acceptable: true},
		{it: "an unknown member", old: `"specversion"`, with: `"later":{"a":[null,1]},"specversion"`, acceptable: true},
		{it: "an unknown member of data", old: `"session_id"`, with: `"later":null,"session_id"`, acceptable: true},
		{it: "another subject's session", subject: "settlement.closing." + id2},
		{it: "another subject's state", subject: "settlement.closed." + id1},
		{it: "a subject of no state", subject: "settlement.open." + id1},
		{it: "a subject too short", subject: id1},
		{it: "a subject of something else", subject: "outcome.closing." + id1},
		{it: "a subject with a wild prefix", subject: "a.*.settlement.closing." + id1},
		{it: "a subject in upper case", subject: "settlement.closing.0X" + id1[2:]},
		{it: "another prefix's source", subject: "prod.settlement.closing." + id1},
		{it: "a name twice", old: `"attempt":1`, with: `"attempt":1,"attempt":1`},
		{it: "a name in another case", old: `"attempt":1`, with: `"Attempt":1`},
		{it: "a name in another case, deep", old: `"digest":"ab`, with: `"Digest":"ab`},
		{it: "a name twice, in a list", old: `"amount":"12.5"`, with: `"amount":"12.5","amount":"12.6"`},
		{it: "null for a member", old: `"policy":{`, with: `"scenario2":1,"request":null,"policy":{`},
		{it: "null for a number", old: `"attempt":1`, with: `"attempt":null`},
		{it: "an amount as number", old: `"amount":"12.5"`, with: `"amount":12.5`},
		{it: "a negative amount", old: `"amount":"12.5"`, with: `"amount":"-12.5"`},
		{it: "another specversion", old: `"1.0"`, with: `"0.3"`},
		{it: "another type", old: `"settlement.closing"`, with: `"settlement.closed"`},
		{it: "another content type", old: `"application/json"`, with: `"text/xml"`},
		{it: "an id of another session", old: id1 + `/1"`, with: id2 + `/1"`},
		{it: "an id without number", old: id1 + `/1"`, with: id1 + `/"`},
		{it: "an id with zero", old: id1 + `/1"`, with: id1 + `/0"`},
		{it: "an id with a sign", old: id1 + `/1"`, with: id1 + `/+1"`},
		{it: "an id with a tail", old: id1 + `/1"`, with: id1 + `/1x"`},
		{it: "an id that says it is the second", old: id1 + `/1"`, with: id1 + `/2"`},
		{it: "a time that is none", old: `"2030-`, with: `"x2030-`},
		{it: "a short attempt id", old: `"attempt_id":"00`, with: `"attempt_id":"`},
		{it: "an attempt below zero", old: `"attempt":1`, with: `"attempt":-1`},
		{it: "no previous", old: `"previous":"",`, with: ``},
		{it: "no standing", old: `"standing":{`, with: `"standing2":{`},
		{it: "a standing of no state", old: `"state":"closing"`, with: `"state":"open"`},
		{it: "a free standing with a holder", old: `"state":"closing"`, with: `"state":"free"`},
		{it: "no request", old: `"request":{`, with: `"request2":{`},
		{it: "an error in an intent", old: `"request":{`, with: `"error":{"code":"x","message":"","class":"y"},"request":{`},
		{it: "a tail", old: `}}`, with: `}} {}`},
		{it: "no JSON", old: `}}`, with: ``},
		{it: "broken UTF-8", old: `invoice`, with: "inv\xffoice"},
		{it: "a previous that is no hash", of: 1, old: `"previous":"`, with: `"previous":"x`},
		{it: "no previous hash in the second", of: 1, old: `"previous":"`, with: `"previous":"","previously":"`},
		{it: "no error in a failure", of: 1, old: `"error":{`, with: `"error2":{`},
		{it: "no evidence in a close", of: 2, old: `"node":{`, with: `"node2":{`},
		{it: "no recovered in a close", of: 2, old: `"recovered":false`, with: `"recovered2":false`},
		{it: "a dead letter in a close", of: 2, old: `"recovered":false`, with: `"recovered":false,"dead_letter":1`},
		{it: "an unknown session with a standing", of: 3, old: `"attempt":0`, with: `"attempt":0,"standing":{"state":"free","sequence":0}`},
		{it: "an unknown session of another message", of: 3, old: `"sequence":7`, with: `"sequence":8`},
	} {
		m := messages[c.of]
		subject, payload := m.Subject, string(m.Payload)
		if c.subject != "" {
			subject = c.subject
		}
		if c.old != "" {
			if !strings.Contains(payload, c.old) {
				t.Fatalf("%s: the entry has no %s", c.it, c.old)
			}
			payload = strings.Replace(payload, c.old, c.with, 1)
		}
		if e, err := ledger.ParseEntry(subject, []byte(payload), 1); (err == nil) != c.acceptable {
			t.Errorf("%s: %v", c.it, err)
		} else if err != nil && !reflect.DeepEqual(e, settlement.Entry{}) {
			t.Errorf("%s: an error, and an entry too", c.it)
		}
	}
}

// FuzzParseEntry: no input brings the reader down, and what it accepts it writes so
// that it reads the same again.
func FuzzParseEntry(f *testing.F) {
	for _, m := range story(f, "") {
		f.Add(m.Subject, m.Payload)
	}
	f.Add("settlement.failed.unknown", []byte(`{"data":{"standing":null}}`))
	f.Fuzz(func(t *testing.T, subject string, payload []byte) {
		e, err := ledger.ParseEntry(subject, payload, 1)
		if err != nil {
			return
		}
		prefix := subject[:strings.LastIndex(subject, "settlement.")]
		stored, err := ledger.Encode(prefix, e)
		if err != nil {
			t.Fatalf("accepted, and can't be written: %v", err)
		}
		again, err := ledger.ParseEntry(subject, stored, 1)
		if err != nil {
			t.Fatalf("accepted, and its own writing is not: %v\n%s", err, stored)
		}
		twice, err := ledger.Encode(prefix, again)
		if err != nil || !bytes.Equal(stored, twice) {
			t.Fatalf("written\n%s\nand again\n%s, %v", stored, twice, err)
		}
	})
}
