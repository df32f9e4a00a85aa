package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/cloudevent"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/settlement"
)

// runChecked is run for tests. It panics if the command prints a line with --output json that
// none of its schemas describes.
func runChecked(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	check := newOutputCheck(args, stdout)
	if check == nil {
		return run(ctx, args, stdin, stdout, stderr)
	}
	return run(ctx, args, stdin, check, stderr)
}

// outputCheck compares what a command prints, line by line, with its schemas.
type outputCheck struct {
	io.Writer
	command string
	line    []byte // that has not ended
}

// newOutputCheck returns nil for a command line that asks for no JSON.
func newOutputCheck(args []string, stdout io.Writer) *outputCheck {
	line := strings.Join(args, " ")
	isJSON := strings.Contains(line, "--output json") || strings.Contains(line, "--output=json") || strings.Contains(line, "-o json") || strings.Contains(line, "--format jsonl") && !strings.Contains(line, "--out")
	cmd, rest, err := newRoot(terminal.New(strings.NewReader(""), io.Discard, io.Discard)).Find(args)
	command := ""
	if err == nil {
		command = strings.TrimPrefix(cmd.CommandPath(), "settled ")
	}
	if !isJSON || printed[command] == nil || command == "schema" && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return nil
	}
	return &outputCheck{Writer: stdout, command: command}
}

func (c *outputCheck) Write(p []byte) (int, error) {
	c.line = append(c.line, p...)
	for {
		line, rest, ended := bytes.Cut(c.line, []byte("\n"))
		if !ended {
			break
		}
		if err := matchesOne(line, printed[c.command]); err != nil {
			panic(fmt.Sprintf("settled %s printed what no schema describes: %v", c.command, err))
		}
		c.line = bytes.Clone(rest)
	}
	return c.Writer.Write(p)
}

// maxChecked is the number of a stream's messages that a test compares with their schemas.
const maxChecked = 500

// checkMessages compares the messages of the four streams with their schemas, and returns how
// many it read of each.
func checkMessages(t testing.TB, js jetstream.JetStream) (read map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	read = map[string]int{}
	for _, name := range []string{"OUTCOMES", "SETTLEMENTS", "DEADLETTERS", "OPERATIONS"} {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		must(t, err)
		state := stream.CachedInfo().State
		for sequence := max(state.FirstSeq, 1); sequence <= min(state.LastSeq, state.FirstSeq+maxChecked); sequence++ {
			m, err := stream.GetMsg(ctx, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			must(t, err)
			read[name]++
			if err := checkMessage(name, m); err != nil {
				t.Errorf("%s/%d: %v", name, sequence, err)
			}
		}
	}
	return read
}

// TestDemoKeepsTheContract: every message of a demo is as its schema describes it.
func TestDemoKeepsTheContract(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- runChecked(ctx, []string{"demo"}, strings.NewReader(""), writer, &stderr)
		_ = writer.Close()
	}()
	var server string
	lines := bufio.NewScanner(reader)
	for server == "" && lines.Scan() {
		if found := regexp.MustCompile(`^Still running: NATS at (nats://[^,]+),`).FindStringSubmatch(lines.Text()); found != nil {
			server = found[1]
		}
	}
	if server == "" {
		t.Fatalf("the demo ended with %d: %s", <-done, stderr.String())
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	nc, err := natsconn.Connect(natsconn.AsOperator(&config.Config{NATSURL: server}), "test", false)
	must(t, err)
	defer nc.Shutdown()
	if read := checkMessages(t, nc.JS); read["OUTCOMES"] < 10 || read["SETTLEMENTS"] < 10 || read["DEADLETTERS"] < 3 {
		t.Errorf("only %v messages", read)
	}
	cancel()
	<-done
}

// checkMessage compares a message of a stream with its schema. It returns nil for an outcome
// that settled refuses, and for a foreign message of another stream.
func checkMessage(stream string, m *jetstream.RawStreamMsg) error {
	switch stream {
	case "OUTCOMES":
		return checkStoredOutcome(m)
	case "SETTLEMENTS":
		if e, err := ledger.ParseEntry(m.Subject, m.Data, m.Sequence); err == nil {
			return contract.Check(entryKind(e), m.Data)
		}
	case "DEADLETTERS":
		if m.Header.Get("Settled-Origin") != "" && m.Header.Get("Settled-Code") != "" {
			return contract.Check("deadletter.headers", headersJSON(m.Header))
		}
	default:
		_, action, _ := strings.Cut(m.Subject, "operation.")
		if r, err := operations.Parse(m, action); err == nil && bytes.Contains(m.Data, []byte(`"who"`)) && r.Who != "" {
			return contract.Check("operation", m.Data)
		}
	}
	return nil
}

// checkStoredOutcome compares a valid outcome with the schemas of its event and its data.
func checkStoredOutcome(m *jetstream.RawStreamMsg) error {
	e := cloudevent.Read(m.Subject, m.Header, m.Data, "OUTCOMES", m.Sequence, "")
	o, err := settlement.ParseOutcome(e)
	if err != nil {
		return nil
	}
	if err := contract.Check("outcome.data", e.Data); err != nil {
		return err
	}
	policy, builtIn := settlement.BuiltIn()[o.Scenario]
	if builtIn && policy.Check(o) == nil {
		if err := contract.Check("outcome.data."+string(o.Scenario), e.Data); err != nil {
			return err
		}
	}
	if m.Header.Get("ce-specversion") == "" {
		return contract.Check("outcome.event", m.Data)
	}
	return nil
}

// entryKind names the schema of an entry.
func entryKind(e settlement.Entry) string {
	if e.Session == "" {
		return "settlement.failed.unknown"
	}
	return "settlement." + string(e.State)
}

// headersJSON is a message's headers as an object, each with its first value.
func headersJSON(header nats.Header) []byte {
	first := map[string]string{}
	for name, values := range header {
		first[name] = values[0]
	}
	text, err := json.Marshal(first)
	if err != nil {
		panic(err) // strings always marshal
	}
	return text
}
