package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// The bounds of a batch.
const (
	maxBatchLine    = 1 << 20 // bytes
	batchInFlight   = 64      // lines that are published at the same time
	maxBatchErrors  = 20      // wrong lines that are reported
	batchStatusWait = time.Second
)

// errNotTried is the error of a line that was not published because an earlier one of its
// session was not.
var errNotTried = errors.New("not published, because an earlier outcome of its session was not")

// batchLine is one outcome of a batch.
type batchLine struct {
	number int // of the line, from 1
	outcomeDraft
}

// batchResult is what `settled publish --batch` prints for each line.
type batchResult struct {
	Line int `json:"line"`
	publishResult
	Result *status.Answer `json:"result,omitempty"` // with --wait
}

// batchCheck is what `settled publish --batch --dry-run` prints.
type batchCheck struct {
	Lines int `json:"lines"` // that were checked, and would be published
}

// publishBatch publishes the outcomes of a file. It publishes none if one of them is wrong.
func (p *program) publishBatch(cmd *cobra.Command, args []string, f publishFlags) error {
	for _, name := range []string{"session", "party", "total", "completion", "data", "id"} {
		if len(args) > 0 || cmd.Flags().Changed(name) {
			return terminal.UsageError(errors.New("--batch names the file that describes the outcomes: SCENARIO, --session, --party, --total, --completion, --data and --id can't be given too"))
		}
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	lines, err := p.readBatch(cmd.Context(), &cfg, f)
	if err != nil || f.dryRun {
		return err
	}
	nc, err := natsconn.Connect(&cfg, "settled publish", false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	results, err := p.publishLines(cmd.Context(), nc, cfg.NATSPrefix, lines)
	if err != nil || f.wait <= 0 {
		return err
	}
	return p.waitForBatch(cmd.Context(), &cfg, results, f.wait)
}

// readBatch reads and checks every line. Empty lines are skipped.
func (p *program) readBatch(ctx context.Context, cfg *config.Config, f publishFlags) (lines []batchLine, err error) {
	in := p.In
	if f.batch != "-" {
		file, err := os.Open(f.batch)
		if err != nil {
			return nil, fmt.Errorf("--batch: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	wrong, ids := 0, map[[2]string]int{}
	report := func(number int, err error) {
		if wrong++; wrong <= maxBatchErrors {
			_, _ = fmt.Fprintf(p.Err, "settled: line %d: %s\n", number, terminal.Printable(err.Error()))
		}
	}
	reader, number := bufio.NewReaderSize(in, maxBatchLine), 0
	for {
		text, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("nothing was published: line %d is longer than %d bytes", number+1, maxBatchLine)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("nothing was published: --batch: %w", err)
		}
		number++
		if len(bytes.TrimSpace(text)) > 0 {
			l, lineErr := newBatchLine(ctx, cfg, f, number, bytes.Clone(text))
			key := [2]string{l.source, l.id}
			switch first, seen := ids[key]; {
			case lineErr != nil:
				report(number, lineErr)
			case seen:
				report(number, fmt.Errorf("line %d has the same source and id", first))
			default:
				ids[key] = number
				lines = append(lines, l)
				p.printWarnings(fmt.Sprintf("line %d: ", number), l.warnings)
			}
		}
		if err != nil {
			break
		}
	}
	if wrong > 0 {
		return nil, fmt.Errorf("nothing was published: %d of %d lines are wrong", wrong, wrong+len(lines))
	}
	if f.dryRun {
		return lines, p.Print(batchCheck{len(lines)}, fmt.Sprintf("Not published (--dry-run). %d outcomes were checked.", len(lines)))
	}
	return lines, nil
}

// newBatchLine reads one line: an outcome, or a CloudEvent that holds one.
func newBatchLine(ctx context.Context, cfg *config.Config, f publishFlags, number int, text []byte) (l batchLine, err error) {
	var v struct {
		SpecVersion string          `json:"specversion"`
		Scenario    string          `json:"scenario"`
		Type        string          `json:"type"`
		Source      string          `json:"source"`
		ID          string          `json:"id"`
		Data        json.RawMessage `json:"data"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	var members map[string]json.RawMessage
	_ = json.Unmarshal(text, &members) // decoding reports the error
	if _, isEvent := members["specversion"]; !isEvent {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(&v); err != nil {
		return l, fmt.Errorf(`want {"scenario": …, "id": …, "data": {…}} or a CloudEvent: %w`, err)
	}
	if v.ID == "" {
		return l, errors.New("it has no id: each outcome of a batch needs one, so that the batch can be published again")
	}
	event, scenario := bytes.TrimSpace(text), v.Scenario
	if v.SpecVersion != "" {
		scenario = strings.TrimPrefix(v.Type, "outcome.")
	}
	if v.Source == "" {
		v.Source = f.source
	}
	if _, err := settlement.ParseScenario(scenario); err != nil {
		return l, err
	}
	if v.SpecVersion == "" {
		if event, err = outcomeEvent(scenario, v.Source, v.ID, v.Data, time.Now()); err != nil {
			return l, err
		}
	}
	l.number = number
	if l.outcomeDraft, err = newOutcomeDraft(ctx, cfg, scenario, v.Source, v.ID, event, f.signKey); err != nil {
		return l, err
	}
	if failure := checkOutcome(cfg, l.outcome); failure != nil && !f.noCheck {
		return l, failure
	}
	_, err = settlement.Canonical(text) // a duplicate name, for example, of which the decoder takes the last
	return l, err
}

// publishLines publishes the lines, those of different sessions at the same time, and prints
// the results in the order of the lines.
func (p *program) publishLines(ctx context.Context, nc *natsconn.Link, prefix string, lines []batchLine) ([]batchResult, error) {
	bar := p.Progress("outcomes")
	defer bar.Clear()
	var results []batchResult
	for len(lines) > 0 {
		some := lines[:min(batchInFlight, len(lines))]
		published := make([]publishResult, len(some))
		failures := make([]error, len(some))
		ofSession := map[settlement.SessionID][]int{} // outcomes of one session are published in their order
		for i, l := range some {
			ofSession[l.outcome.Session] = append(ofSession[l.outcome.Session], i)
		}
		var publishing sync.WaitGroup
		for _, these := range ofSession {
			publishing.Go(func() {
				for at, i := range these {
					if published[i], failures[i] = some[i].publish(ctx, nc.JS, prefix); failures[i] != nil {
						for _, later := range these[at+1:] { // must not overtake it
							failures[later] = errNotTried
						}
						return
					}
				}
			})
		}
		publishing.Wait()
		failed := -1
		for i, l := range some {
			if failures[i] != nil {
				if failed < 0 {
					failed = i
				}
				continue
			}
			r := batchResult{Line: l.number, publishResult: published[i]}
			results = append(results, r)
			bar.Clear()
			if err := p.Print(r, fmt.Sprintf("line %d: %s", r.Line, r.text())); err != nil {
				return results, err
			}
		}
		if failed >= 0 {
			return results, fmt.Errorf("line %d: %w; %d lines are published: publish the batch again to go on, each outcome is settled only once", some[failed].number, failures[failed], len(results))
		}
		lines = lines[len(some):]
		bar.Update(uint64(len(results)), uint64(len(results)+len(lines)), "published") // #nosec G115 -- counts
	}
	return results, nil
}

// waitForBatch waits until each outcome has a result, and prints it. It returns an error if one
// failed, and errStillWaiting if one has no result in time.
func (p *program) waitForBatch(ctx context.Context, cfg *config.Config, results []batchResult, most time.Duration) error {
	nc, err := natsconn.Connect(natsconn.AsOperator(cfg), "settled publish", false)
	if err != nil {
		return fmt.Errorf("%w: the outcomes are published, and their results can't be read: %w", errStillWaiting, err)
	}
	defer nc.Shutdown()
	bar := p.Progress("results")
	defer bar.Clear()
	r := &status.Reader{JS: nc.JS, Consumer: cfg.Consumer(), Policies: cfg.Policies}
	all, failed, end, read := len(results), 0, time.Now().Add(most), false
	for {
		waiting := results[:0:0]
		for _, b := range results {
			a, err := r.BySequence(ctx, b.Sequence)
			if err != nil && (!read || time.Now().After(end)) {
				return fmt.Errorf("%w: line %d is published, and its result can't be read: %w", errStillWaiting, b.Line, err)
			}
			read = true
			if err != nil { // once it could be read: try again
				waiting = append(waiting, b)
				continue
			}
			if a.State == status.Waiting || a.State == status.Closing {
				waiting = append(waiting, b)
				continue
			}
			if a.State != status.Closed {
				failed++
			}
			b.Result = &a
			bar.Clear()
			if err := p.Print(b, fmt.Sprintf("line %d: %s", b.Line, a.Text())); err != nil {
				return err
			}
		}
		results = waiting
		bar.Update(uint64(all-len(results)), uint64(all), fmt.Sprintf("%d failed", failed)) // #nosec G115 -- counts
		switch {
		case len(results) == 0 && failed > 0:
			return fmt.Errorf("%d of %d outcomes failed", failed, all)
		case len(results) == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%w after %s: %d of %d outcomes have no result, %d failed; `settled status SEQUENCE` tells why", errStillWaiting, most, len(results), all, failed)
		}
		select {
		case <-time.After(batchStatusWait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
