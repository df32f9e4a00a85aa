package ledger_test

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// texts are what a member of an entry can be: mostly plain, some that JSON escapes, and
// some that are not UTF-8.
var texts = rapid.OneOf(
	rapid.SampledFrom([]string{"", "plain", `<b>"quoted" & \ 'more'`, "\u2028 \u0000 \t", "\ufffd", `\ufffd`, "é", "\xff", "a\xc3", "\xed\xa0\x80"}),
	rapid.String(),
	rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes")) }),
)

// anyEntry is an entry for a session without entries, whatever its texts and numbers.
func anyEntry(t *rapid.T) settlement.Entry {
	text := func(name string) string { return texts.Draw(t, name) }
	o := outcome("a")
	if rapid.Bool().Draw(t, "odd outcome") {
		o = settlement.OutcomeRef{Source: text("source"), ID: text("id"), Type: text("type"), Digest: text("digest"), Stream: text("stream"), Stored: text("stored")}
	}
	o.Sequence = rapid.Uint64().Draw(t, "sequence")
	id := session(1)
	var e settlement.Entry
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		e = closing(id, o, 1)
		if rapid.Bool().Draw(t, "versioned") {
			e.ValidUntil, e.BaseVersion = nil, ptr(rapid.Uint64().Draw(t, "base"))
		} else {
			e.ValidUntil = ptr(time.Unix(rapid.Int64Range(-1<<33, 1<<35).Draw(t, "until"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).In(time.FixedZone("", 3600)))
		}
		e.Request.Digest = text("request")
	case 1:
		e = recovered(id, o, 1)
		e.Node.Response, e.Node.URL = text("response"), text("url")
		e.Evidence = rapid.SampledFrom([][]string{nil, {}, {text("evidence")}}).Draw(t, "evidence list")
	case 2:
		e = failed(settlement.Head{Session: id}, id, o, rapid.IntRange(-1, 3).Draw(t, "attempt"))
		e.Error = &settlement.Failure{Code: settlement.Code(text("code")), Message: text("message"), Class: settlement.Class(text("class"))}
		e.DeadLetter = rapid.Uint64().Draw(t, "dead letter")
	default:
		e = failed(settlement.Head{}, "", o, 0)
		e.Session, e.Standing = "", nil
	}
	if e.Policy != nil {
		e.Policy.Name = text("policy")
		e.Allocation = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) settlement.Allocation {
			units := new(big.Int).Lsh(big.NewInt(rapid.Int64Range(-1, 1<<62).Draw(t, "units")), rapid.UintRange(0, 260).Draw(t, "shift"))
			return settlement.Allocation{
				Participant: texts.Draw(t, "participant"), Asset: settlement.Asset(texts.Draw(t, "asset")),
				Amount: settlement.AmountOfUnits(units, rapid.Int32Range(0, 30).Draw(t, "decimals")),
			}
		}), 0, 3).Draw(t, "allocations")
	}
	e.Scenario, e.Reference, e.Reason, e.Traceparent = settlement.Scenario(text("scenario")), text("reference"), text("reason"), text("traceparent")
	return e
}

// TestAppendReturnsWhatIsReadBack: whether an entry is stored, and what is returned of it, is
// as if it were decoded from its bytes before it is stored.
func TestAppendReturnsWhatIsReadBack(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 6_789, time.FixedZone("", 3600))
	rapid.Check(t, func(t *rapid.T) {
		cfg, mem := config(), &ledgertest.Stream{}
		cfg.NowFunc, cfg.RandomFunc = func() time.Time { return now }, counter()
		e := anyEntry(t)

		// As Append completes it.
		complete := e
		complete.Time, complete.AttemptID = now.UTC().Truncate(time.Microsecond), strings.Repeat("0", 31)+"1"
		if e.ValidUntil != nil {
			complete.ValidUntil = ptr(e.ValidUntil.UTC())
		}
		if e.Session != "" {
			complete.N, complete.Previous = 1, ptr("")
		}
		var want settlement.Entry
		payload, err := ledger.Encode("", complete)
		if err == nil {
			want, err = ledger.ParseEntry("settlement."+string(e.State)+"."+e.Session.Token(), payload, 1)
		}
		if err == nil && e.Session != "" && (want.Outcome != e.Outcome || *want.Standing != *e.Standing || e.Node != nil && *want.Node != *e.Node) {
			err = fmt.Errorf("not read back the same")
		}

		got, appendErr := ledger.New(mem, cfg).Append(context.Background(), settlement.Head{Session: e.Session}, e)
		if (appendErr == nil) != (err == nil) || (err == nil) != (len(mem.Messages()) == 1) {
			t.Fatalf("append: %v, want %v; %d messages", appendErr, err, len(mem.Messages()))
		}
		if err != nil {
			return
		}
		if stored := mem.Messages()[0]; !bytes.Equal(stored.Payload, payload) {
			t.Fatalf("stored\n%s\nwant\n%s", stored.Payload, payload)
		}
		last := *got.Last
		if len(last.Allocation) != len(want.Allocation) {
			t.Fatalf("%d allocations, want %d", len(last.Allocation), len(want.Allocation))
		}
		for i, a := range last.Allocation {
			if !a.Amount.Equal(want.Allocation[i].Amount) || a.Participant != want.Allocation[i].Participant || a.Asset != want.Allocation[i].Asset {
				t.Fatalf("allocation %+v, want %+v", a, want.Allocation[i])
			}
		}
		if last.Allocation != nil { // equal, but perhaps with another scale
			last.Allocation = want.Allocation
		}
		if !reflect.DeepEqual(last, want) {
			t.Fatalf("returned\n%+v\nwant\n%+v", last, want)
		}
	})
}
