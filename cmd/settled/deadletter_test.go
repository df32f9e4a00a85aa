package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"settled/cmd/settled/internal/runbook"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// onNode are the flags with which a command can ask the node.
func (d *deployment) onNode(args ...string) []string {
	return append(args, "--clearnode.url", d.cfg.NodeURL,
		"--clearnode.message_expiry", testExpiry.String(), "--clearnode.request_validity", testValidity.String(), "--clearnode.fence_margin", testMargin.String())
}

func decode[T any](d *deployment, text string) T {
	d.t.Helper()
	var v T
	d.must(json.Unmarshal([]byte(text), &v))
	return v
}

// Every code has advice, and the runbook is where it comes from.
func TestAdvice(t *testing.T) {
	all := runbook.Codes()
	for _, code := range settlement.Codes() {
		if a := all[code]; a.Means == "" || a.Do == "" || strings.Contains(a.Means+a.Look+a.Do, "**") || strings.Contains(a.Do, "](") {
			t.Errorf("%s: %+v", code, a)
		}
	}
	if len(all) != len(settlement.Codes()) {
		t.Errorf("advice on %d codes, there are %d", len(all), len(settlement.Codes()))
	}
	if a := all[settlement.SessionUnfunded]; a.Do != "replay when it is funded; otherwise discard." || !strings.HasPrefix(a.Look, "whether the deposit") {
		t.Errorf("%+v", a)
	}
}

// An operator at a dead letter: what happened, how the session is now, what would
// become of a replay, and then the replay.
func TestShowAndDryRun(t *testing.T) {
	d := deploy(t)
	d.serve()
	session, other := d.open(), d.open()
	bob := strings.ToLower(addressOf(d.players[1]))
	d.wantCode(d.result(session, d.publish("no_show", "a", session, map[string]any{"parties": map[string]any{"provider": bob}})), settlement.UnknownScenario)
	d.wantCode(d.result(other, d.publish("payment_completed", "b", other, nil)), settlement.InvalidOutcome)
	d.wantCode(d.result("", d.publishRaw("cancellation", []byte("garbage"))), settlement.InvalidOutcome)
	d.result(other, d.publish("cancellation", "c", other, nil))

	out := d.ok(d.onNode("deadletter", "show", "1")...)
	for _, want := range []string{"unknown_scenario (rejected)", "no policy named no_show", `"provider": "` + bob, "FAILED", "open", "15.000001 usdc", "weight 100 of 100", "fails with unknown_scenario", "add the policy under"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("show 1 has no %q:\n%s", want, out)
		}
	}
	shown := decode[map[string]any](d, d.ok(d.onNode("deadletter", "show", "2", "-o", "json")...))
	node, replay := shown["node"].(map[string]any), shown["replay"].(map[string]any)
	if node["asked"] != true || node["open"] != false || len(node["paid_out"].([]any)) != 3 || replay["would"] != "fail" || replay["code"] != "invalid_outcome" || len(shown["ledger"].(map[string]any)["entries"].([]any)) != 3 {
		t.Errorf("show 2: %v", shown)
	}
	if out := d.ok("deadletter", "show", "3"); !strings.Contains(out, "garbage") || !strings.Contains(out, "its session id can't be read") {
		t.Error(out)
	}
	if out := d.ok("deadletter", "show", "1"); !strings.Contains(out, "clearnode.url is not set") {
		t.Errorf("without a node: %s", out)
	}

	// With the policy that was missing the dry run says what would be paid.
	file := filepath.Join(d.dir, "policies.yaml")
	write(t, file, "policies:\n  no_show:\n    - {to: provider, share: \"0.5\"}\n    - {to: funders, share: remaining}\n")
	lines := strings.Split(strings.TrimSpace(d.ok(d.onNode("deadletter", "replay", "--all", "--dry-run", "-o", "json", "--config", file)...)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	first, last := decode[status.Forecast](d, lines[0]), decode[status.Forecast](d, lines[2])
	if first.Would != "close" || first.DeadLetter != 1 || len(first.Allocations) != 6 || last.Would != "fail" || last.Code != "invalid_outcome" {
		t.Errorf("%+v, %+v", first, last)
	}
	if out := d.ok(d.onNode("deadletter", "replay", "1", "--dry-run", "--config", file)...); !strings.Contains(out, "closes the session") || !strings.Contains(out, "usdc") {
		t.Error(out)
	}
	if len(d.letters()) != 3 || len(d.node.Closes(string(session))) != 0 {
		t.Error("a dry run changed something")
	}
	d.verify(1)
}

func TestListPages(t *testing.T) {
	d := deploy(t)
	d.serve()
	for i := range 5 {
		d.result("", d.publishRaw("cancellation", fmt.Appendf(nil, "garbage %d", i)))
	}
	status, stdout, stderr := d.command("deadletter", "list", "--limit", "2", "--code", "invalid_outcome")
	if status != exitDone || strings.Count(stdout, "\n") != 3 || !strings.Contains(stderr, "settled deadletter list") || !strings.Contains(stderr, "--code=invalid_outcome") || !strings.Contains(stderr, "--limit=2") || !strings.Contains(stderr, "--after=2") {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	status, stdout, stderr = d.command("deadletter", "list", "--limit", "3", "--after", "2", "-o", "json")
	if status != exitDone || strings.Count(stdout, "\n") != 3 || stderr != "" || !strings.HasPrefix(stdout, `{"sequence":3,`) {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{{"--class", "bad"}, {"--code", "bad"}, {"--limit", "-1"}, {"--since", "yesterday"}, {"--session", "0x1"}} {
		if status, _, stderr := d.command(append([]string{"deadletter", "list"}, args...)...); status != exitMisused {
			t.Errorf("%v: %d %s", args, status, stderr)
		}
	}
}

// editing runs a command with an editor and with answers to its questions.
func (d *deployment) editing(script, answers string, args ...string) (status int, stdout, stderr string) {
	d.t.Helper()
	editor := filepath.Join(d.dir, "editor")
	d.must(os.WriteFile(editor, []byte("#!/bin/sh\n"+script+"\n"), 0o700)) // #nosec G306 -- to be run
	d.t.Setenv("VISUAL", editor)
	var out, errs bytes.Buffer
	status = runChecked(d.t.Context(), append(args, "--nats.url", d.cfg.NATSURL), strings.NewReader(answers), &out, &errs)
	return status, out.String(), errs.String()
}

// What does not parse is refused with the error, and changes nothing; mended, it
// settles the session.
func TestReplayEdited(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	bob := strings.ToLower(addressOf(d.players[1]))
	d.wantCode(d.result(session, d.publish("payment_complete", "a", session, map[string]any{"parties": map[string]any{"provider": bob}})), settlement.UnknownScenario)

	unchanged := func(status int, stderr, want string) {
		t.Helper()
		if status != exitFailed || !strings.Contains(stderr, want) || !strings.Contains(stderr, "left as it is") || len(d.letters()) != 1 {
			t.Errorf("%d, %d letters: %s", status, len(d.letters()), stderr)
		}
	}
	status, _, stderr := d.editing(`true`, "", "deadletter", "replay", "1", "--edit")
	unchanged(status, stderr, "nothing was changed")
	status, _, stderr = d.editing(`echo '{' > "$1"`, "n\n", "deadletter", "replay", "1", "--edit")
	unchanged(status, stderr, "no valid outcome")
	status, _, stderr = d.editing(`exit 3`, "", "deadletter", "replay", "1", "--edit")
	unchanged(status, stderr, "set $EDITOR")
	if status, _, stderr := d.editing(`true`, "", "deadletter", "replay", "--all", "--edit"); status != exitMisused {
		t.Errorf("%d %s", status, stderr)
	}

	// First a mistake, then mended: the scenario's name.
	script := `if grep -q '"parties"' "$1" && [ ! -e "$1.once" ]; then touch "$1.once"; sed -i.bak 's/"session_id"/"sess"/; s/payment_complete"/payment_completed"/' "$1"; else rm -f "$1.once"; sed -i.bak 's/"sess"/"session_id"/' "$1"; fi; rm -f "$1.bak"`
	status, stdout, stderr := d.editing(script, "y\n", "deadletter", "replay", "1", "--edit", "--as", "ada")
	if status != exitDone || !strings.Contains(stdout, "is replayed, edited, as OUTCOMES/2") || !strings.Contains(stderr, "Edit it again?") {
		t.Fatalf("%d %s%s", status, stdout, stderr)
	}
	if e := d.result(session, 2); e.State != settlement.EntryClosed || e.Scenario != "payment_completed" {
		t.Errorf("%+v", e.Error)
	}
	if n := len(d.letters()); n != 0 {
		t.Errorf("%d letters left", n)
	}
	d.verify(1)
}

func TestRateFlag(t *testing.T) {
	for text, want := range map[string]float64{"50/s": 50, "600/m": 10, "10": 10, "36/h": 0.01} {
		l, err := terminal.ParseRate(text)
		if err != nil || float64(l.Limit()) != want {
			t.Errorf("%s: %v, %v", text, l, err)
		}
	}
	for _, text := range []string{"0", "-1/s", "x", "1/d", "1/s/s", "NaN", "Inf", "1e9"} {
		if l, err := terminal.ParseRate(text); err == nil {
			t.Errorf("%s: %v", text, l.Limit())
		}
	}
}
