package deadletter

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/ledger/natstest"
	"settled/settlement"
)

var update = flag.Bool("update", false, "write the transcripts anew; read the difference")

// TestTranscripts follows one message: what was published, what the
// Settler answers to each delivery, and after the line of dashes what went over
// the wire, what was logged, and what dead letter was left.
//
//	settle waiting REASON | failed CODE | closed | panic    (one line for each delivery)
//	publish SUBJECT
//	Header: value
//
//	payload
//	----
//	the transcript
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text := natstest.Must(os.ReadFile(file))
			script, want, _ := strings.Cut(string(text), "\n----\n")
			got := storedTime.ReplaceAllString(transcript(t, script), "<when it was stored>")
			if *update {
				natstest.OK(t, os.WriteFile(file, []byte(script+"\n----\n"+got), 0o600))
			} else if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// storedTime is in the message id of a dead letter.
var storedTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)

func transcript(t *testing.T, script string) string {
	t.Helper()
	answers, msg := readScript(t, script)
	r := newLetterRig(t, consumer.Config{})
	wire := natstest.Must(r.js.Conn().SubscribeSync("$JS.ACK.>"))
	natstest.Must(r.js.PublishMsg(t.Context(), msg))
	var calls atomic.Int64
	results := make(chan consumer.Result, 100)
	r.consume(func(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
		return scripted(ctx, r.letters, o, answers[min(int(calls.Add(1)), len(answers))-1])
	}, func(c *consumer.Config) { c.ResultFunc = func(res consumer.Result) { results <- res } })
	r.settledAll(1)
	var b strings.Builder
	for res := (consumer.Result{Disposition: consumer.Returned}); res.Disposition == consumer.Returned; {
		res = <-results
		answer := natstest.Must(wire.NextMsg(natstest.Patience))
		fmt.Fprintf(&b, "delivery %d: session %s, digest %.8s\n", res.Delivered, res.Outcome.Session.Token(), res.Outcome.Ref.Digest)
		if res.Outcome.Invalid != nil {
			fmt.Fprintf(&b, "  invalid: %s\n", res.Outcome.Invalid.Message)
		}
		fmt.Fprintf(&b, "  wire: %s\n  %s %s\n", delays.ReplaceAllString(string(answer.Data), `"delay": N`), res.Disposition, res.Reason)
	}
	writeLog(t, &b, r)
	writeLetters(t, &b, r.letters)
	return b.String()
}

var (
	delays = regexp.MustCompile(`"delay": [0-9]+`)
	times  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

func writeLog(t *testing.T, b *strings.Builder, r *letterRig) {
	t.Helper()
	for _, message := range []string{"outcome waits", "outcome settled", "outcome failed"} {
		for _, e := range r.log.Events(t, message) {
			fmt.Fprintf(b, "log: %v %v: source %v, id %v, delivered %v, %v %v, error %v\n", e["level"], message, e["source"], e["id"], e["delivered"], e["disposition"], e["reason"], e["error"])
		}
	}
}

func writeLetters(t *testing.T, b *strings.Builder, letters *Queue) {
	t.Helper()
	list := natstest.Must(letters.List(t.Context(), Filter{}))
	for _, l := range list {
		l = natstest.Must(letters.Get(t.Context(), l.Sequence))
		fmt.Fprintf(b, "dead letter %d, deadletter.%s\n", l.Sequence, l.Scenario)
		for _, name := range slices.Sorted(maps.Keys(l.Header)) {
			fmt.Fprintf(b, "  %s: %s\n", name, times.ReplaceAllString(strings.Join(l.Header[name], " | "), "TIME"))
		}
		fmt.Fprintf(b, "  %s\n", l.Payload)
	}
}

// scripted returns what one line of a script says; a failure is stored first, as Settle
// must do.
func scripted(ctx context.Context, letters *Queue, o settlement.Outcome, line string) (settlement.Settlement, error) {
	what, of, _ := strings.Cut(line, " ")
	failure := o.Invalid
	switch {
	case what == "panic":
		panic("scripted")
	case what == "waiting":
		return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.Reason(of), Err: errors.New("scripted")}
	case what == "failed":
		failure = settlement.Fail(settlement.Code(of), "scripted")
	}
	if failure == nil {
		return closedBy(o), nil
	}
	if _, err := letters.Store(ctx, o, *failure, 0); err != nil {
		return settlement.Settlement{}, err
	}
	return settlement.Settlement{}, &settlement.Failed{Failure: *failure}
}

func readScript(t *testing.T, script string) (answers []string, m *nats.Msg) {
	t.Helper()
	head, payload, _ := strings.Cut(script, "\n\n")
	m = &nats.Msg{Header: nats.Header{}, Data: []byte(payload)}
	for line := range strings.Lines(head) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "#":
		case word == "settle":
			answers = append(answers, rest)
		case word == "publish":
			m.Subject = rest
		case strings.HasSuffix(word, ":"):
			m.Header.Add(strings.TrimSuffix(word, ":"), rest)
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return answers, m
}
