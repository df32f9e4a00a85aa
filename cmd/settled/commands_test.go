package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"settled/settlement"
)

// command runs one command line in this process, as a user would.
func (d *deployment) command(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append(args, "--nats.url", d.cfg.NATSURL)
	status = runChecked(d.t.Context(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

func (d *deployment) ok(args ...string) string {
	d.t.Helper()
	status, stdout, stderr := d.command(args...)
	if status != exitDone {
		d.t.Fatalf("settled %s: exit %d: %s", strings.Join(args, " "), status, stderr)
	}
	return stdout
}

func TestCommandsOfAnOperator(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	bob := strings.ToLower(addressOf(d.players[1]))

	// A misspelt scenario fails, and is a dead letter.
	var p publishResult
	d.must(json.Unmarshal([]byte(d.ok("publish", "payment_complete", "--no-check", "--session", string(session), "--party", "provider="+bob, "--id", "a", "-o", "json")), &p))
	d.wantCode(d.result(session, p.Sequence), settlement.UnknownScenario)
	var again publishResult
	d.must(json.Unmarshal([]byte(d.ok("publish", "payment_complete", "--no-check", "--session", string(session), "--party", "provider="+bob, "--id", "a", "-o", "json")), &again))
	if !again.Duplicate || again.Sequence != p.Sequence {
		t.Errorf("%+v after %+v", again, p)
	}
	var letter struct {
		Sequence  uint64 `json:"sequence"`
		SessionID string `json:"session_id"`
		Code      string `json:"code"`
		Origin    string `json:"origin"`
		FailedAt  string `json:"failed_at"`
	}
	d.must(json.Unmarshal([]byte(d.ok("deadletter", "list", "-o", "json")), &letter))
	if letter.Code != "unknown_scenario" || letter.Origin != "OUTCOMES/1" || letter.SessionID != string(session) || letter.FailedAt == "" {
		t.Errorf("%+v", letter)
	}
	if out := d.ok("deadletter", "list", "--code", "node_rejected"); !strings.Contains(out, "No dead letters") {
		t.Error(out)
	}
	if out := d.ok("deadletter", "show", "1"); !strings.Contains(out, "no policy named payment_complete") || !strings.Contains(out, bob) {
		t.Error(out)
	}

	// Replayed unchanged it fails again, as a new dead letter; that one is discarded.
	d.ok("deadletter", "replay", "--all", "--scenario", "payment_complete")
	d.until("the replay has failed", func() bool { l := d.letters(); return len(l) == 1 && l[0].Sequence == 2 })
	if status, _, stderr := d.command("deadletter", "replay", "1"); status != exitFailed || !strings.Contains(stderr, "no such dead letter") {
		t.Errorf("%d %s", status, stderr)
	}
	d.ok("deadletter", "discard", "2", "--reason", "misspelt")

	// The right one closes the session.
	d.must(json.Unmarshal([]byte(d.ok("publish", "payment_completed", "--session", string(session), "--party", "provider="+bob, "-o", "json")), &p))
	d.result(session, p.Sequence)
	if out := d.ok("ledger", "show", string(session)); !strings.Contains(out, "15.000001 usdc") || strings.Count(out, "FAILED") != 2 {
		t.Error(out)
	}
	if out := d.ok("ledger", "verify", "--no-node"); !strings.Contains(out, "1 closed") || !strings.Contains(out, "Anchor: 4:") {
		t.Error(out)
	}
	d.verify(1)
}

func TestExitStatus(t *testing.T) {
	for line, want := range map[string]int{
		"version":                 exitDone,
		"version --output yaml":   exitMisused,
		"nonsense":                exitMisused,
		"publish":                 exitMisused,
		"deadletter":              exitMisused,
		"watch --state open":      exitMisused,
		"ledger show 0x12":        exitMisused,
		"config check --no-such":  exitMisused,
		"doctor":                  exitFailed,
		"config check -c missing": exitFailed,
		"serve":                   exitFailed,
		"cosign":                  exitFailed,
		"cosign now":              exitMisused,
		"deadletter list --nats.url nats://127.0.0.1:1": exitFailed,
	} {
		var out, errs bytes.Buffer
		if got := runChecked(t.Context(), strings.Fields(line), strings.NewReader(""), &out, &errs); got != want {
			t.Errorf("settled %s: exit %d, want %d (%s)", line, got, want, errs.String())
		}
		if want != exitDone && (errs.Len() == 0 || out.Len() > 0 && !strings.Contains(line, "deadletter") && line != "doctor") {
			t.Errorf("settled %s: stdout %q, stderr %q", line, out.String(), errs.String())
		}
	}
}

// The connection breaks while an outcome is published, before it is stored or after:
// the command stores it once, and says so.
func TestPublishOverABrokenConnection(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.serve()
	proxy := proxyNATS(t, d.cfg.NATSURL)
	d.cfg.NATSURL = proxy.url
	for n, wrong := range []twinFault{cutBefore, cutAfter} {
		session := d.open()
		struck := proxy.add(wrong, 0, to("outcome.partial_service")(session))
		var p publishResult
		text := d.ok("publish", "partial_service", "--session", string(session), "--party", "provider="+addressOf(d.players[1]),
			"--completion", "0.5", "--id", fmt.Sprint(n), "-o", "json")
		d.must(json.Unmarshal([]byte(text), &p))
		<-struck
		if p.Sequence != uint64(n+1) || p.Duplicate {
			t.Errorf("%s: %+v", wrong, p)
		}
		d.result(session, p.Sequence)
	}
	d.verify(2)
}
