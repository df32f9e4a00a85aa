package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/settlement"
)

// wrongOutcomes are mistakes of every class that is known before the session is read. $S is an
// open session; $A and $B are its players.
var wrongOutcomes = []struct{ scenario, data string }{
	{"cancellation", `{}`},
	{"cancellation", `{"session_id":7}`},
	{"cancellation", `{"session_id":null}`},
	{"cancellation", `{"session_id":"0x1234"}`},
	{"cancellation", `{"session_id":"cafe"}`},
	{"cancellation", `{"sessionId":"$S"}`},
	{"cancellation", `{"Session":"$S"}`},
	{"cancellation", `{"session_id":"$S","expct":{"totals":[]}}`},
	{"cancellation", `{"session_id":"$S","reasn":"x"}`},
	{"cancellation", `{"session_id":"$S","Evidence":[]}`},
	{"cancellation", `{"session_id":"$S","expect":{"total":[]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"other":1}}`},
	{"cancellation", `{"session_id":"$S","expect":[]}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"usdc","amount":15}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"usdc","amount":"-1"}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"usdc","amount":"1e3"}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"usdc","amount":"1"},{"asset":"usdc","amount":"1"}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"","amount":"1"}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"us dc","amount":"1"}]}}`},
	{"cancellation", `{"session_id":"$S","expect":{"version":-1}}`},
	{"cancellation", `{"session_id":"$S","expect":{"version":1.5}}`},
	{"cancellation", `{"session_id":"$S","reference":7}`},
	{"cancellation", `{"session_id":"$S","reference":"` + strings.Repeat("x", 257) + `"}`},
	{"cancellation", `{"session_id":"$S","reason":"` + strings.Repeat("x", 4097) + `"}`},
	{"cancellation", `{"session_id":"$S","evidence":"x"}`},
	{"cancellation", `{"session_id":"$S","evidence":[7]}`},
	{"cancellation", `{"session_id":"$S","session_data":"` + strings.Repeat("x", 16385) + `"}`},
	{"cancellation", `{"session_id":"$S","signatures":{}}`},
	{"cancellation", `{"session_id":"$S","expect":{"totals":[{"asset":"usdc","amount":"15.000001"},{"asset":"weth","amount":"0.5"}]}}`}, // above the limit
	{"payment_completed", `{"session_id":"$S"}`},
	{"payment_completed", `{"session_id":"$S","parties":[]}`},
	{"payment_completed", `{"session_id":"$S","parties":{"providr":"$B"}}`},
	{"payment_completed", `{"session_id":"$S","parties":{"winner":"$B"}}`},
	{"payment_completed", `{"session_id":"$S","parties":{"provider":"bob"}}`},
	{"payment_completed", `{"session_id":"$S","parties":{"provider":"0xdeadbeef"}}`},
	{"payment_completed", `{"session_id":"$S","parties":{"provider":"0xd8Da6BF26964aF9D7eEd9e03E53415D37aA96045"}}`}, // a wrong checksum
	{"payment_completed", `{"session_id":"$S","parties":{"provider":["$B","$B"]}}`},
	{"payment_completed", `{"session_id":"$S","parties":{"provider":[]}}`},
	{"game_completed", `{"session_id":"$S","parties":{"winners":"$A"}}`},
	{"game_completed", `{"session_id":"$S","parties":{}}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"}}`},
	{"partial_service", `{"session_id":"$S","completion":"0.5"}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"},"completion":0.5}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"},"completion":"1.1"}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"},"completion":"-0.1"}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"},"completion":"half"}`},
	{"partial_service", `{"session_id":"$S","parties":{"provider":"$B"},"completeness":"0.5"}`},
	{"dispute_resolved", `{"session_id":"$S"}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","share":"0.5"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","share":"0.6"},{"participant":"$B","share":"0.6"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","share":"1","amount":"1","asset":"usdc"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","amount":"5"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","amount":"-5","asset":"usdc"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"particpant":"$A","share":"1"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"alice","share":"1"}]}`},
	{"dispute_resolved", `{"session_id":"$S","awards":[{"participant":"$A","amount":"15.000001","asset":"usdc"},{"participant":"$B","amount":"0.5","asset":"weth"}]}`}, // above the limit
	{"dispute_resolved", `{"session_id":"$S","awards":{"participant":"$A","share":"1"}}`},
	{"payment_complete", `{"session_id":"$S","parties":{"provider":"$B"}}`},
	{"refund", `{"session_id":"$S"}`},
	{"cancellation", `{"session_id":"$S","reason":"\ud800"}`},
	{"cancellation", `{"session_id":"$S","x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`},
	{"cancellation", `{"session_id":"$S","x":1e999}`},
}

// Every wrong outcome is refused by `settled publish`, alone and in a batch, before anything is
// stored, with the text that its dead letter has if it is published nevertheless.
func TestWrongOutcomes(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	limit, err := settlement.ParseLimit("usdc", "", "session", "10")
	d.must(err)
	d.cfg.Limits = settlement.Limits{limit}
	d.serve()
	file := filepath.Join(t.TempDir(), "settled.yaml")
	d.must(os.WriteFile(file, []byte("limits:\n  - {asset: usdc, per: session, amount: \"10\"}\n"), 0o600))
	stored := func() uint64 {
		stream, err := d.nats.JS.Stream(t.Context(), consumer.OutcomesStream(""))
		d.must(err)
		return stream.CachedInfo().State.LastSeq
	}
	publish := func(stdin string, args ...string) (status int, stdout, stderr string) {
		var out, errs bytes.Buffer
		args = append([]string{"publish", "-c", file, "--nats.url", d.cfg.NATSURL, "-o", "json"}, args...)
		status = runChecked(t.Context(), args, strings.NewReader(stdin), &out, &errs)
		return status, out.String(), errs.String()
	}
	replace := strings.NewReplacer("$S", string(d.open()), "$A", addressOf(d.players[0]), "$B", addressOf(d.players[1]))
	texts := map[uint64]string{} // by sequence
	for i, wrong := range wrongOutcomes {
		data, id := replace.Replace(wrong.data), fmt.Sprint(i)
		before := stored()
		status, _, stderr := publish(data, wrong.scenario, "--data", "-", "--id", id)
		text, refused := strings.CutPrefix(strings.TrimSpace(stderr), "settled: nothing was published: ")
		if !refused || status != exitFailed {
			t.Errorf("%s %.200s: exit %d, %s", wrong.scenario, data, status, stderr)
			continue
		}
		text = strings.TrimSuffix(text, " (--no-check publishes it nevertheless)")
		line := fmt.Sprintf(`{"scenario":%q,"id":%q,"data":%s}`, wrong.scenario, id, data)
		if status, _, stderr := publish(line, "--batch", "-"); status != exitFailed || !strings.Contains(stderr, "settled: line 1: "+text+"\n") {
			t.Errorf("%s %.200s: batch: exit %d, %s", wrong.scenario, data, status, stderr)
		}
		if now := stored(); now != before {
			t.Errorf("%s %.200s: refused, and %d messages are stored", wrong.scenario, data, now-before)
		}
		event := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/settled/publish","type":"outcome.%s","data":%s}`, id, wrong.scenario, data)
		texts[d.publishRaw(wrong.scenario, []byte(event))] = text
	}
	d.until("all have dead letters", func() bool { return len(d.letters()) == len(texts) })
	for _, l := range d.letters() {
		var sequence uint64
		if _, err := fmt.Sscanf(l.Origin, "OUTCOMES/%d", &sequence); err != nil {
			t.Fatal(err)
		}
		if got := string(l.Code) + ": " + l.Error; got != texts[sequence] {
			t.Errorf("%s: the dead letter has\n\t%s\nand publish said\n\t%s", l.Origin, got, texts[sequence])
		}
	}
	if len(texts) < 40 {
		t.Errorf("%d wrong outcomes", len(texts))
	}
}

// What has no effect is reported by publish, in the log's metric, and by status.
func TestWarnings(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	s, _ := d.serve()
	session := d.open()
	data := fmt.Sprintf(`{"session_id":%q,"parties":{"provider":%q,"waiter":%q},"completion":"0.5","table":7,"aside\u001b[31m":1}`, session, addressOf(d.players[1]), addressOf(d.players[0]))
	want := []string{`data: unknown member "aside\x1b[31m" has no effect`, `data: unknown member "table" has no effect`, `parties: the policy of payment_completed pays no role "waiter"`, "completion has no effect: the policy of payment_completed has no share completion"}
	var out, errs bytes.Buffer
	if status := runChecked(t.Context(), []string{"publish", "payment_completed", "--data", "-", "--nats.url", d.cfg.NATSURL, "-o", "json"}, strings.NewReader(data), &out, &errs); status != exitDone {
		t.Fatalf("exit %d: %s", status, errs.String())
	}
	var p publishResult
	d.must(json.Unmarshal(out.Bytes(), &p))
	if fmt.Sprintf("%q", p.Warnings) != fmt.Sprintf("%q", want) || strings.Count(errs.String(), "settled: warning: ") != len(want) || strings.Contains(errs.String(), "\x1b") {
		t.Errorf("%q, and on standard error %q", p.Warnings, errs.String())
	}
	d.wantClosed(session, p.Sequence)
	d.until("the warnings are counted", func() bool {
		return d.metric(s, `settled_outcome_warnings_total{scenario="payment_completed"}`) == fmt.Sprint(len(want))
	})
	if a := d.status(fmt.Sprint(p.Sequence)); fmt.Sprintf("%q", a.Warnings) != fmt.Sprintf("%q", want) {
		t.Errorf("status: %q", a.Warnings)
	}
}

// A batch is checked before any line is published, published in order, and published again
// without a second settlement.
func TestPublishBatch(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.serve()
	batch := func(text string, args ...string) (status int, results []batchResult, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		status = runChecked(t.Context(), append([]string{"publish", "--batch", "-", "--nats.url", d.cfg.NATSURL, "-o", "json"}, args...), strings.NewReader(text), &out, &errs)
		for line := range strings.Lines(out.String()) {
			var r batchResult
			d.must(json.Unmarshal([]byte(line), &r))
			results = append(results, r)
		}
		return status, results, errs.String()
	}
	var lines []string
	for n := range 150 {
		line := fmt.Sprintf(`{"scenario":"cancellation","id":"%d","data":{"session_id":%q}}`, n, d.open())
		if n%3 == 0 { // as a CloudEvent
			line = fmt.Sprintf(`{"specversion":"1.0","source":"/shop","type":"outcome.cancellation","id":"%d","data":{"session_id":%q}}`, n, d.open())
		}
		lines = append(lines, line, "")
	}
	text := strings.Join(lines, "\n")
	for wrong, says := range map[string]string{
		`{"scenario":"cancellation","data":{}}`:                                                     "line 301: it has no id",
		`{"scenario":"cancellation","id":"1","data":{"session_id":"x"}}`:                            "line 301: invalid_outcome",
		`{"scenario":"cancellation","id":"x","id":"y","data":{"session_id":"0x` + zeros(64) + `"}}`: "line 301: ",
		strings.Replace(lines[2], `"reason"`, "", 1):                                                "line 301: line 3 has the same source and id",
		"not JSON": `line 301: want {"scenario": …, "id": …, "data": {…}} or a CloudEvent`,
		`{"scenario":"cancellation","id":"x","session_id":"y"}`: "line 301: want",
	} {
		if status, results, stderr := batch(text + "\n" + wrong); status != exitFailed || len(results) > 0 || !strings.Contains(stderr, "settled: "+says) || !strings.Contains(stderr, "nothing was published: 1 of 151 lines are wrong") {
			t.Errorf("%s: exit %d, %d results, %s", wrong, status, len(results), stderr)
		}
	}
	if status, results, stderr := batch(text, "--dry-run"); status != exitDone || len(results) != 1 || stderr != "" {
		t.Errorf("--dry-run: exit %d, %v, %s", status, results, stderr)
	}
	status, results, stderr := batch(text)
	if status != exitDone || len(results) != 150 {
		t.Fatalf("exit %d, %d results, %s", status, len(results), stderr)
	}
	first := map[int]uint64{}
	for i, r := range results {
		first[r.Line] = r.Sequence
		if r.Line != 2*i+1 || r.Duplicate {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	status, results, stderr = batch(text, "--wait=2m")
	if status != exitDone || len(results) != 300 {
		t.Fatalf("again: exit %d, %d results, %s", status, len(results), stderr)
	}
	closed := map[int]bool{}
	for _, r := range results {
		if r.Sequence != first[r.Line] {
			t.Errorf("again: %+v, first stored as %d", r, first[r.Line])
		}
		if r.Result != nil && r.Result.State == "closed" {
			closed[r.Line] = true
		}
	}
	if len(closed) != 150 {
		t.Errorf("%d closed", len(closed))
	}
	for _, misuse := range [][]string{{"--id", "x"}, {"--session", "0x1"}, {"cancellation"}} {
		if status, _, stderr := batch("", misuse...); status != exitMisused || !strings.Contains(stderr, "--batch names the file") {
			t.Errorf("%v: exit %d, %s", misuse, status, stderr)
		}
	}
	d.verify(150)
}

// If a line is not stored, no later line of its session is: it would settle the session.
func TestBatchKeepsTheOrderOfASession(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.makeStreams(func(c *jetstream.StreamConfig) {
		if c.Name == consumer.OutcomesStream("") {
			c.MaxMsgSize = 4096
		}
	})
	session, other := d.open(), d.open()
	lines := fmt.Sprintf("{\"scenario\":\"cancellation\",\"id\":\"1\",\"data\":{\"session_id\":%q,\"session_data\":%q}}\n", session, strings.Repeat("x", 8000)) +
		fmt.Sprintf("{\"scenario\":\"cancellation\",\"id\":\"2\",\"data\":{\"session_id\":%q}}\n", session) +
		fmt.Sprintf("{\"scenario\":\"cancellation\",\"id\":\"3\",\"data\":{\"session_id\":%q}}\n", other)
	var out, errs bytes.Buffer
	status := runChecked(t.Context(), []string{"publish", "--batch", "-", "--nats.url", d.cfg.NATSURL, "-o", "json"}, strings.NewReader(lines), &out, &errs)
	if status != exitFailed || !strings.Contains(errs.String(), "line 1: ") || !strings.Contains(errs.String(), "1 lines are published") || !strings.Contains(out.String(), `"line":3`) || strings.Contains(out.String(), `"line":2`) {
		t.Errorf("exit %d, %s %s", status, out.String(), errs.String())
	}
	if got := d.stored(); !strings.Contains(got, "OUTCOMES 1 ") {
		t.Error(got)
	}
}
