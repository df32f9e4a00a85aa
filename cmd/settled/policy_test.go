package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/policies"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

// What explain shows is what is paid: for every scenario and generation of node, before the
// close by the session at the node and by its description, and afterwards by the message.
func TestExplainIsWhatIsPaid(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			d := deployOn(t, clearnodetest.Config{Protocol: protocol, RateLimit: -1})
			d.cfg.NodeProtocol = protocol
			d.serve()
			for scenario, data := range d.scenarios() {
				d.explainAndSettle(protocol, scenario, data)
			}
		})
	}
}

// scenarios are outcomes of every built-in scenario: in each, something is rounded, or
// everything goes to one participant.
func (d *deployment) scenarios() map[string]map[string]any {
	alice, bob := addressOf(d.players[0]), addressOf(d.players[1])
	award := func(to, member, value string) map[string]any {
		row := map[string]any{"participant": to, member: value}
		if member == "amount" {
			row["asset"] = "usdc"
		}
		return row
	}
	return map[string]map[string]any{
		"payment_completed":          {"parties": map[string]any{"provider": bob}},
		"game_completed":             {"parties": map[string]any{"winner": []string{bob, alice}}},
		"partial_service":            d.partial(),
		"cancellation":               {"parties": map[string]any{}},
		"dispute_resolved":           {"parties": map[string]any{}, "awards": []any{award(alice, "share", "0.3333333"), award(bob, "share", "0.6666667")}},
		"dispute_resolved by amount": {"parties": map[string]any{}, "awards": []any{award(alice, "amount", "5"), award(bob, "amount", "10.000001")}},
	}
}

func (d *deployment) explainAndSettle(protocol, name string, data map[string]any) {
	d.t.Helper()
	scenario, _, _ := strings.Cut(name, " ")
	session := d.openOf(protocol)
	if protocol == clearnodetest.Legacy {
		data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "15.000001"}}}
		data["parties"].(map[string]any)["funder"] = addressOf(d.players[0])
	}
	file := filepath.Join(d.dir, "data.json")
	text, err := json.Marshal(data)
	d.must(err)
	d.must(os.WriteFile(file, text, 0o600))
	before := d.explain(scenario, "--session", string(session), "--data", file)
	checkDerivation(d.t, before)

	described := filepath.Join(d.dir, "session.json")
	text, err = json.Marshal(before.Session)
	d.must(err)
	d.must(os.WriteFile(described, text, 0o600))
	sequence := d.publish(scenario, string(session), session, data)
	paid := d.wantClosed(session, sequence).Allocation
	for how, e := range map[string]policies.Explanation{
		"the node":              before,
		"a description":         d.explain(scenario, "--session", described, "--data", file, "--clearnode.url", ""),
		"the message afterward": d.explain("--sequence", fmt.Sprint(sequence)),
	} {
		if fmt.Sprint(e.Allocations) != fmt.Sprint(paid) || e.Policy.Name != scenario {
			d.t.Errorf("%s on %s, explained from %s: %v, paid was %v", name, protocol, how, e.Allocations, paid)
		}
		if e.Closed != (how == "the message afterward") {
			d.t.Errorf("%s on %s, explained from %s: closed %t", name, protocol, how, e.Closed)
		}
	}
}

func (d *deployment) explain(args ...string) (e policies.Explanation) {
	d.t.Helper()
	out := d.ok(append([]string{"policy", "explain", "-o", "json", "--clearnode.url", d.node.URL(), "--clearnode.protocol", d.cfg.NodeProtocol}, args...)...)
	d.must(json.Unmarshal([]byte(out), &e))
	return e
}

// checkDerivation: the rows of the derivation are those of the plan.
func checkDerivation(t *testing.T, e policies.Explanation) {
	t.Helper()
	rows := map[string]string{}
	for _, a := range e.Assets {
		for _, r := range a.Participants {
			rows[r.Participant+" "+string(a.Asset)] = r.Amount.String()
			if (r.Quota.Decimal == r.Amount.String()) != (r.Remainder.Fraction == "0") || r.Rank == 0 {
				t.Errorf("%s %+v", a.Asset, r)
			}
		}
	}
	planned := map[string]string{}
	for _, a := range e.Allocations {
		planned[a.Participant+" "+string(a.Asset)] = a.Amount.String()
	}
	if !maps.Equal(rows, planned) {
		t.Errorf("derived %v, planned %v", rows, planned)
	}
}

// The text shows shares, quotas, the reason of each rounding and the limits; a failure is
// shown with its code, and is the exit status.
func TestExplainText(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	session := write("session.json", `{
 "accounts": {"alice": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "bob": "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"},
 "participants": [{"account": "alice"}, {"account": "bob"}],
 "deposits": [{"account": "alice", "asset": "usdc", "amount": "10"}, {"account": "bob", "asset": "usdc", "amount": "5.000001"}],
 "decimals": {"usdc": 6}}`)
	config := write("settled.yaml", "limits:\n  - {asset: usdc, per: participant, amount: \"7.500001\"}\n")
	const alice, bob = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	for _, c := range []struct {
		status int
		says   string
		args   []string
	}{
		{exitDone, alice + `  15000001/2000000  7.5000005     1/2        up: equal remainders, and listed earlier (rank 1)  7.500001`, []string{"game_completed", "--party", "winner=" + bob, "--party", "winner=" + alice}},
		{exitDone, bob + `  15000001/2000000  7.5000005     1/2        down: equal remainders, and listed later (rank 2)  7.5`, []string{"game_completed", "--party", "winner=" + bob, "--party", "winner=" + alice}},
		{exitDone, `Limit {asset: "usdc", per: "participant", amount: "7.500001"}: 7.500001 of "usdc" for ` + alice, []string{"game_completed", "--party", "winner=" + bob, "--party", "winner=" + alice}},
		{exitFailed, `Step 2: to funders, share remaining: 1/2 (0.5) of each asset, divided by what each participant funded`, []string{"partial_service", "--party", "provider=" + bob, "--completion", "0.5"}},
		{exitFailed, `: 10.000001 of "usdc" for ` + bob + `: EXCEEDED`, []string{"partial_service", "--party", "provider=" + bob, "--completion", "0.5"}},
		{exitFailed, `Result: the outcome fails with limit_exceeded: 15.000001 of "usdc" is due to ` + bob, []string{"payment_completed", "--party", "provider=" + bob}},
		{exitFailed, `Result: the outcome fails with invalid_outcome: partial_service needs completion`, []string{"partial_service", "--party", "provider=" + bob}},
		{exitFailed, `Result: the outcome fails with unknown_scenario: no policy named cancelled`, []string{"cancelled"}},
		{exitFailed, `Result: the outcome fails with not_a_participant`, []string{"payment_completed", "--party", "provider=0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}},
	} {
		var out, errs strings.Builder
		args := append([]string{"policy", "explain", "-c", config, "--session", session}, c.args...)
		if status := runChecked(t.Context(), args, strings.NewReader(""), &out, &errs); status != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: exit %d, %s\nwant %d, %s\n%s", c.args, status, out.String(), c.status, c.says, errs.String())
		}
	}
}

// policy list shows where a policy comes from, and only the limits that apply to it.
func TestPolicyList(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settled.yaml")
	must(t, os.WriteFile(file, []byte("policies:\n  no_show:\n    - {to: provider, share: \"0.5\"}\n    - {to: funders, share: remaining}\nlimits:\n  - {scenario: no_show, per: session, amount: \"5\"}\n  - {per: session, amount: \"7\"}\n"), 0o600))
	list := func(more ...string) string {
		var out, errs strings.Builder
		if status := runChecked(t.Context(), append([]string{"policy", "list", "-c", file}, more...), strings.NewReader(""), &out, &errs); status != exitDone {
			t.Fatal(errs.String())
		}
		return out.String()
	}
	var all []listedPolicy
	for line := range strings.Lines(list("-o", "json")) {
		var l listedPolicy
		must(t, json.Unmarshal([]byte(line), &l))
		all = append(all, l)
	}
	if len(all) != 6 {
		t.Fatalf("%+v", all)
	}
	for _, l := range all {
		own := l.Scenario == "no_show"
		if own != (l.Origin == "configured") || own != (len(l.Limits) == 2) || len(l.Digest) != 64 {
			t.Errorf("%+v", l)
		}
		if !own && l.Digest != settlement.BuiltIn()[l.Scenario].Ref().Digest {
			t.Errorf("%+v", l)
		}
	}
	if text := list(); !strings.Contains(text, "no_show (configured)") || !strings.Contains(text, "step 2  to funders, share remaining") || !slices.Contains(strings.Split(text, "\n"), `    limit   {scenario: "no_show", per: "session", amount: "5"}`) {
		t.Error(text)
	}
}

// The cases that are shipped pass with the built-in policies, and cover them.
func TestShippedPolicyCases(t *testing.T) {
	files, err := filepath.Glob("../../deploy/policy-cases/*.json")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		checkDocument(t, text, "policy.cases")
	}
	var out, errs strings.Builder
	if status := runChecked(t.Context(), append([]string{"policy", "test"}, files...), strings.NewReader(""), &out, &errs); status != exitDone || len(files) == 0 {
		t.Errorf("exit %d, %s%s", status, out.String(), errs.String())
	}
	if strings.Contains(out.String(), "No case covers") || !strings.Contains(out.String(), "cases, 0 failed.") {
		t.Error(out.String())
	}
}

// Cases that fail are shown with what is wrong, and are the exit status.
func TestPolicyTestFails(t *testing.T) {
	head := `{"accounts": {"alice": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "bob": "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"},
 "session": {"participants": [{"account": "alice"}, {"account": "bob"}], "deposits": [{"account": "alice", "asset": "usdc", "amount": "3"}], "decimals": {"usdc": 6}}, "cases": [`
	const pays = `"scenario": "payment_completed", "data": {"parties": {"provider": "bob"}}, `
	for text, says := range map[string]string{
		head + `{"name": "n", ` + pays + `"pays": [{"participant": "alice", "asset": "usdc", "amount": "1"}, {"participant": "bob", "asset": "usdc", "amount": "2"}]}]}`:                                      "FAIL  -: n\n      alice: expected 1 usdc, the policy pays 0\n      bob: expected 2 usdc, the policy pays 3\n1 cases, 1 failed.\nNo case covers cancellation, step 1: to funders, share 100%.\n",
		head + `{"name": "n", ` + pays + `"pays": [{"participant": "bob", "asset": "usdc", "amount": "3"}, {"participant": "0x0000000000000000000000000000000000000009", "asset": "usdc", "amount": "1"}]}]}`: "0x0000000000000000000000000000000000000009: expected 1 usdc, the policy pays 0",
		head + `{"name": "n", ` + pays + `"fails": "session_unfunded"}]}`:                                         "the outcome pays, expected it to fail with session_unfunded",
		head + `{"name": "n", "scenario": "partial_service", "fails": "session_unfunded"}]}`:                      "the outcome fails with invalid_outcome: partial_service needs parties.provider, expected session_unfunded",
		head + `{"name": "n", "scenario": "cancellation", "fails": "broken"}]}`:                                   `there is no code "broken"`,
		head + `{"name": "n", "scenario": "cancellation"}]}`:                                                      "want either pays (rows) or fails (a code)",
		head + `{"name": "n", "scenario": "cancellation", "pays": [{"participant": "carol", "asset": "usdc"}]}]}`: `pays: account "carol": want an address, or a name under accounts`,
		head + `{"name": "n", "scenario": "cancellation", "pais": []}]}`:                                          `unknown field "pais": ` + "`settled schema policy.cases`",
		head + `]}`:                                "it has no cases",
		`{"cases": [], "cases": []}`:               `the name "cases" occurs twice`,
		`{"accounts": {"alice": "0x12"}}`:          "accounts: alice: address",
		`{"cases": [{"name": "n", "fails": "x"}]}`: `there is no code "x"`,
	} {
		var out, errs strings.Builder
		if status := runChecked(t.Context(), []string{"policy", "test", "-"}, strings.NewReader(text), &out, &errs); status != exitFailed || !strings.Contains(out.String()+errs.String(), says) {
			t.Errorf("%s: exit %d, %s%s\nwant %s", text, status, out.String(), errs.String(), says)
		}
	}
}

// A replica with another policy is counted by the other one, and found by the doctor.
func TestOtherPoliciesAreReported(t *testing.T) {
	d := deploy(t)
	half, err := settlement.ParsePolicy("partial_service", []settlement.PolicyStep{{To: "provider", Share: "0.5"}, {To: "funders", Share: "remaining"}})
	d.must(err)
	var replicas []*service.Service
	for range 2 {
		s, _ := d.serve()
		board := d.openBoard(s)
		defer board.Close()
		replicas = append(replicas, s)
		d.cfg.Policies = settlement.BuiltIn()
		d.cfg.Policies["partial_service"] = half
	}
	session := d.open()
	e := d.wantClosed(session, d.publish("partial_service", "a", session, d.partial()))
	d.until("the other replica has counted the two entries", func() bool {
		counts := d.metric(replicas[0], `settled_other_policies_total{scenario="partial_service"}`) + d.metric(replicas[1], `settled_other_policies_total{scenario="partial_service"}`)
		return counts == "20" || counts == "02"
	})
	_, found := d.doctor()
	at := slices.IndexFunc(found, func(f doctor.Finding) bool { return strings.HasPrefix(f.Check, "policies") })
	mine := e.Policy.Digest == settlement.BuiltIn()["partial_service"].Ref().Digest // as the doctor's configuration has it
	if f := found[at]; (f.Result == doctor.OK) != mine || !mine && (f.Result != doctor.Warn || !strings.Contains(f.Found, e.Policy.Digest)) {
		t.Errorf("%+v, paid by %s", f, e.Policy.Digest)
	}
}
