package main

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

var update = flag.Bool("update", false, "write generated files again")

// golden compares a committed file with what it is generated from.
func golden(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { // #nosec G306 -- documentation
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s is not what the code says: run make docs", path)
	}
}

func TestSampleConfig(t *testing.T) {
	golden(t, "../../deploy/settled.yaml", config.Sample())
	for _, k := range new(config.Config).Keys() {
		if k.Help == "" {
			t.Errorf("%s is not explained", k.Name)
		}
	}
}

// deploy/streams holds each stream as `nats stream add --config` takes it, with
// the three replicas of production.
func TestStreamDefinitions(t *testing.T) {
	streams := consumer.StreamConfigs(consumer.Config{Replicas: 3})
	streams = append(streams, ledger.StreamConfig(ledger.Config{Replicas: 3}))
	var names []string
	for _, s := range streams {
		text, err := json.MarshalIndent(s, "", "  ")
		must(t, err)
		name := strings.ToLower(s.Name) + ".json"
		names = append(names, name)
		golden(t, "../../deploy/streams/"+name, string(text)+"\n")
	}
	files, _ := filepath.Glob("../../deploy/streams/*.json")
	for _, f := range files {
		if !slices.Contains(names, filepath.Base(f)) {
			t.Errorf("%s is no stream of ours", f)
		}
	}
}

// Every code and every reason to wait has its place in the runbook.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	must(t, err)
	for _, code := range settlement.Codes() {
		section := regexp.MustCompile("(?s)\n### `" + string(code) + "`\n(.*?)\n#").FindSubmatch(text)
		if section == nil || !strings.Contains(string(section[1]), "**Means**") || !strings.Contains(string(section[1]), "**Do**") {
			t.Errorf("the runbook has no section for %s that says what it means and what to do", code)
		}
	}
	for _, reason := range []settlement.Reason{
		settlement.NodeUnavailable, settlement.ReadFailed, settlement.InDoubt, settlement.LedgerUnavailable, settlement.LedgerHeld,
		settlement.NotReady, settlement.NodeTransient, settlement.DeadLetterUnavailable,
		settlement.EscrowPending, settlement.NodeRefused, settlement.UnknownRefusal, settlement.CosignersUnavailable, settlement.Stopped,
	} {
		if !strings.Contains(string(text), "| `"+string(reason)+"` |") {
			t.Errorf("the runbook does not say what waiting for %s means", reason)
		}
	}
}

// The README's Go compiles, its configuration is sound, and its commands exist.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	must(t, err)
	blocks := regexp.MustCompile("(?s)```(go|yaml)\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of Go and YAML", len(blocks))
	}
	for i, block := range blocks {
		dir := t.TempDir()
		switch block[1] {
		case "go":
			file := filepath.Join(dir, "main.go")
			write(t, file, block[2])
			if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil { // #nosec G204 -- our own README
				t.Errorf("block %d: %v\n%s", i, err, out)
			}
		case "yaml":
			write(t, filepath.Join(dir, "judge.key"), strings.Repeat("0", 63)+"3")
			file := filepath.Join(dir, "settled.yaml")
			write(t, file, strings.ReplaceAll(block[2], "judge.key", filepath.Join(dir, "judge.key")))
			var out, errs strings.Builder
			args := []string{"config", "check", "--config", file}
			if !strings.Contains(block[2], "clearnode:") { // a part of a configuration
				args = append(args, "--clearnode.url=ws://127.0.0.1:1/ws", "--clearnode.key_files="+filepath.Join(dir, "judge.key"))
			}
			if status := runChecked(t.Context(), args, strings.NewReader(""), &out, &errs); status != exitDone {
				t.Errorf("block %d: %s", i, errs.String())
			}
		}
	}
	var shell string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		shell += block[1]
	}
	lines := regexp.MustCompile(`(?m)^(?:build/)?settled ([a-z]+(?: [a-z]+)?)`).FindAllStringSubmatch(shell, -1)
	if len(lines) < 8 {
		t.Errorf("only %d commands are shown", len(lines))
	}
	for _, line := range lines {
		cmd, _, err := newRoot(terminal.New(strings.NewReader(""), os.Stdout, os.Stderr)).Find(strings.Fields(line[1]))
		if err != nil || cmd.Hidden || cmd.Name() == "settled" {
			t.Errorf("the README calls `settled %s`, which is no command", line[1])
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(text), 0o600))
}

// The stream definitions are for the streams that settled reads.
func TestStreamNames(t *testing.T) {
	for want, got := range map[string]string{"OUTCOMES": consumer.OutcomesStream(""), "SETTLEMENTS": ledger.StreamName(""), "PROD_SETTLEMENTS": ledger.StreamName("prod.")} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if c := ledger.StreamConfig(ledger.Config{}); c.AllowDirect || !c.DenyDelete || !c.DenyPurge || c.Discard != jetstream.DiscardNew {
		t.Errorf("the ledger's stream endangers money: %+v", c)
	}
}
