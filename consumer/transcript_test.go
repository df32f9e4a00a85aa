package consumer

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
	"testing"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

var update = flag.Bool("update", false, "write the transcripts anew; read the difference")

// TestTranscripts tells the story of one message: what was published, what the
// Settler answers to each delivery, and after the line of dashes what went over
// the wire, what was logged, and what dead letter was left.
//
//	settle waiting REASON | failed CODE | closed | panic    (one line for each delivery)
//	publish SUBJECT
//	Header: value
//
//	payload
//	----
//	the story
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(text), "\n----\n")
			got := storedTime.ReplaceAllString(story(t, script), "<when it was stored>")
			if *update {
				if err := os.WriteFile(file, []byte(script+"\n----\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// storedTime is in the message id of a dead letter.
var storedTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)

func story(t *testing.T, script string) string {
	t.Helper()
	answers, msg := readScript(t, script)
	r := newRig(t, nil)
	letters := NewDeadLetters(r.js, r.cfg)
	r.settler.do = func(ctx context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		return scripted(ctx, letters, o, answers[min(nth, len(answers))-1])
	}
	wire, err := r.js.Conn().SubscribeSync("$JS.ACK.>")
	if err != nil {
		t.Fatal(err)
	}
	r.publishMsg(msg)
	r.start()
	r.settledAll(1)
	var b strings.Builder
	for res := (Result{Disposition: Requeued}); res.Disposition == Requeued; {
		res = r.result()
		answer, err := wire.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "delivery %d: session %s, digest %.8s\n", res.Delivered, res.Outcome.Session.Token(), res.Outcome.Ref.Digest)
		if res.Outcome.Invalid != nil {
			fmt.Fprintf(&b, "  invalid: %s\n", res.Outcome.Invalid.Message)
		}
		fmt.Fprintf(&b, "  wire: %s\n  %s %s\n", delays.ReplaceAllString(string(answer.Data), `"delay": N`), res.Disposition, res.Reason)
	}
	tellLog(t, &b, r)
	tellLetters(t, &b, letters)
	return b.String()
}

var (
	delays = regexp.MustCompile(`"delay": [0-9]+`)
	times  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

func tellLog(t *testing.T, b *strings.Builder, r *rig) {
	t.Helper()
	for _, message := range []string{"outcome waits", "outcome settled", "outcome failed"} {
		for _, e := range r.log.events(t, message) {
			fmt.Fprintf(b, "log: %v %v: source %v, id %v, delivered %v, %v %v, error %v\n", e["level"], message, e["source"], e["id"], e["delivered"], e["disposition"], e["reason"], e["error"])
		}
	}
}

func tellLetters(t *testing.T, b *strings.Builder, letters *DeadLetters) {
	t.Helper()
	list, err := letters.List(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l, err = letters.Get(t.Context(), l.Sequence); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "dead letter %d, deadletter.%s\n", l.Sequence, l.Scenario)
		for _, name := range slices.Sorted(maps.Keys(l.Header)) {
			fmt.Fprintf(b, "  %s: %s\n", name, times.ReplaceAllString(strings.Join(l.Header[name], " | "), "TIME"))
		}
		fmt.Fprintf(b, "  %s\n", l.Payload)
	}
}

// scripted does what one line of a script says; what fails is stored first, as
// the law demands.
func scripted(ctx context.Context, letters *DeadLetters, o settlement.Outcome, line string) (settlement.Settlement, error) {
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
