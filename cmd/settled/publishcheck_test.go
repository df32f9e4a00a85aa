package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"settled/settlement"
)

// A mistake is found before anything is stored, and has the text of its dead letter.
func TestPublishChecks(t *testing.T) {
	d := deploy(t)
	limit, err := settlement.ParseLimit("usdc", "", "session", "1")
	d.must(err)
	d.cfg.Limits = settlement.Limits{limit}
	d.serve()
	session := string(d.open())
	bob := addressOf(d.players[1])
	file := filepath.Join(t.TempDir(), "settled.yaml")
	d.must(os.WriteFile(file, []byte("limits:\n  - {asset: usdc, per: session, amount: \"1\"}\n"), 0o600))

	sequence := uint64(0)
	for i, c := range []struct{ scenario, data, says string }{
		{"payment_completed", `{"parties":{"providr":"` + bob + `"}}`, `invalid_outcome: payment_completed needs parties.provider: unknown role "providr": did you mean "provider"?`},
		{"payment_completed", `{"parties":{"provider":"0x` + strings.ToLower(bob[2:41]) + `A"}}`, "invalid_outcome: parties.provider: address "},
		{"cancellation", `{"expct":{"totals":[]}}`, `invalid_outcome: data: unknown member "expct": did you mean "expect"?`},
		{"cancellation", `{"expect":{"totals":[{"asset":"usdc","amount":"15.000001"},{"asset":"weth","amount":"0.5"}]}}`, `limit_exceeded: the session holds 15.000001 of "usdc", above the limit {asset: "usdc", per: "session", amount: "1"}`},
		{"cancelled", `{}`, "unknown_scenario: no policy named cancelled"},
		{"partial_service", `{"parties":{"provider":"` + bob + `"}}`, "invalid_outcome: partial_service needs completion"},
	} {
		args := []string{"publish", c.scenario, "--session", session, "--data", "-", "-c", file, "--id", fmt.Sprint(i), "--nats.url", d.cfg.NATSURL}
		publish := func(more ...string) (int, string) {
			var out, errs bytes.Buffer
			status := runChecked(t.Context(), append(args, more...), strings.NewReader(c.data), &out, &errs)
			return status, out.String() + errs.String()
		}
		for _, more := range [][]string{nil, {"--dry-run"}} {
			if status, text := publish(more...); status != exitFailed || !strings.Contains(text, "nothing was published: "+c.says) {
				t.Errorf("%s %q: exit %d, %s", c.data, more, status, text)
			}
		}
		status, text := publish("--no-check")
		if status != exitDone {
			t.Fatalf("%s --no-check: exit %d, %s", c.data, status, text)
		}
		sequence++
		e := d.result(settlement.SessionID(session), sequence)
		if e.Error == nil || !strings.HasPrefix(string(e.Error.Code)+": "+e.Error.Message, c.says) {
			t.Errorf("%s: recorded as %+v, want %s", c.data, e.Error, c.says)
		}
	}
	for data, says := range map[string]string{
		`{"reason":"a","reason":"b"}`: `nothing was published: invalid_outcome: data: the name "reason" occurs twice in one object`,
		`[]`:                          "nothing was published: invalid_outcome: data: want a JSON object", `{"Session":"` + session + `"}`: `did you mean "session_id"?`,
	} {
		var out, errs bytes.Buffer
		if status := runChecked(t.Context(), []string{"publish", "cancellation", "--data", "-", "--nats.url", d.cfg.NATSURL}, strings.NewReader(data), &out, &errs); status != exitFailed || !strings.Contains(errs.String(), says) {
			t.Errorf("%s: exit %d, %s", data, status, errs.String())
		}
	}
	d.verify(0)
}

// Where outcomes must be signed, one without a signature is not published.
func TestPublishChecksTheSignature(t *testing.T) {
	d := deploy(t)
	shop, address := d.signingKey("shop")
	args := []string{"publish", "cancellation", "--session", "0x" + zeros(63) + "1", "--trust.outcome_signers", address}
	if status, _, stderr := d.command(args...); status != exitFailed || !strings.Contains(stderr, "nothing was published: untrusted_outcome: it carries no Settled-Signature") {
		t.Errorf("exit %d, %s", status, stderr)
	}
	out := d.ok(append(args, "--sign-key", shop, "--dry-run")...)
	if !strings.Contains(out, "Settled-Signature: 0x") {
		t.Error(out)
	}
}

// --dry-run shows the message and what would be paid, and publishes nothing.
func TestPublishDryRun(t *testing.T) {
	d := deploy(t)
	d.serve()
	session := d.open()
	args := []string{"publish", "payment_completed", "--session", string(session), "--party", "provider=" + addressOf(d.players[1]), "--dry-run", "--id", "x", "-o", "json"}
	var p publishPreview
	d.must(json.Unmarshal([]byte(d.ok(args...)), &p))
	if p.Subject != "outcome.payment_completed" || p.Forecast.Would != "unknown" || !strings.Contains(p.Forecast.Message, "clearnode.url is not set") || !strings.Contains(string(p.Event), `"id":"x"`) {
		t.Errorf("%+v", p)
	}
	args = append(args, "--clearnode.url", d.cfg.NodeURL)
	d.must(json.Unmarshal([]byte(d.ok(args...)), &p))
	if p.Forecast.Would != "close" || len(p.Forecast.Allocations) == 0 {
		t.Errorf("%+v", p.Forecast)
	}
	args[5] = "provider=0x" + zeros(39) + "1"
	status, stdout, stderr := d.command(args...)
	if status != exitFailed || !strings.Contains(stderr, "would fail with not_a_participant") || json.Unmarshal([]byte(stdout), &p) != nil || p.Forecast.Code != "not_a_participant" {
		t.Errorf("exit %d, %s %s", status, stdout, stderr)
	}
	info, err := d.nats.JS.Stream(t.Context(), "OUTCOMES")
	d.must(err)
	if n := info.CachedInfo().State.LastSeq; n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}

// --wait exits 0 where the session is closed, 1 where the outcome failed, and 3 where
// neither is known in time.
func TestPublishWaits(t *testing.T) {
	d := deploy(t)
	_, stop := d.serve()
	session := d.open()
	args := []string{"publish", "cancellation", "--session", string(session), "--id", "a", "--wait=1m"}
	for range 2 { // the second is a duplicate, and has the same result
		if out := d.ok(args...); !strings.Contains(out, "closed") || !strings.Contains(out, "usdc") {
			t.Error(out)
		}
	}
	args[5] = "b"
	if status, stdout, stderr := d.command(args...); status != exitFailed || !strings.Contains(stdout, "failed") || !strings.Contains(stderr, "the outcome failed with outcome_conflict: this session was settled by outcome") {
		t.Errorf("exit %d, %s %s", status, stdout, stderr)
	}
	stop()
	args[3], args[5], args[6] = string(d.open()), "c", "--wait=1s"
	if status, _, stderr := d.command(args...); status != exitWaiting || !strings.Contains(stderr, "still waiting after 1s: the ledger has no entry of the outcome") {
		t.Errorf("exit %d, %s", status, stderr)
	}
}
