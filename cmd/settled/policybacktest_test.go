package main

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/policies"
)

// backtest is `settled policy backtest` against a configuration with this text.
func (d *deployment) backtest(config string, args ...string) (found []policies.Comparison, totals policies.Totals) {
	d.t.Helper()
	file := filepath.Join(d.dir, "against.yaml")
	d.must(os.WriteFile(file, []byte(config), 0o600))
	if len(args) == 0 {
		args = []string{"--clearnode.url", d.node.URL(), "--clearnode.protocol", d.cfg.NodeProtocol, "--rate", "0"}
	}
	out := d.ok(append([]string{"policy", "backtest", "-o", "json", "--against", file}, args...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var c policies.Comparison
		d.must(json.Unmarshal([]byte(line), &c))
		found = append(found, c)
	}
	d.must(json.Unmarshal([]byte(lines[len(lines)-1]), &totals))
	return found, totals
}

// would is what a comparison says that each would have received.
func (d *deployment) would(c policies.Comparison) string {
	names := map[string]string{}
	for name, key := range map[string]*ecdsa.PrivateKey{"alice": d.players[0], "bob": d.players[1], "judge": d.judge} {
		names[strings.ToLower(addressOf(key))] = name
	}
	var parts []string // a nitronode lists participants in an order of its own
	for _, change := range c.Differences {
		parts = append(parts, fmt.Sprintf("%s %s", names[strings.ToLower(change.Participant)], change.Would))
		difference, err := decimal.NewFromString(change.Difference)
		d.must(err)
		if paid := decimal.RequireFromString(change.Paid.String()); paid.Add(difference).String() != change.Would.String() || difference.IsZero() {
			d.t.Errorf("%+v", change)
		}
	}
	slices.Sort(parts)
	return strings.TrimSpace(strings.Join(append([]string{c.Kind}, parts...), " ") + " " + c.Code)
}

// What another configuration would have paid, on every generation of node.
func TestPolicyBacktest(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.Legacy, clearnodetest.NitronodeV1} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) { testBacktest(t, protocol) })
	}
}

func testBacktest(t *testing.T, protocol string) {
	d, _ := generation(t, protocol, 2) // 0.3333333 of 15.000001 to bob, the rest to the funders
	noNode := []string{"--no-node"}
	want := func(name, config, would string, args ...string) {
		t.Helper()
		found, totals := d.backtest(config, args...)
		n := 2
		if would == "" {
			n = 0
		}
		if len(found) != n || totals.Closed != 2 || (totals.Different == 2) != strings.HasPrefix(would, "difference") || (totals.NotComparable == 2) != (would == "not_comparable") {
			t.Errorf("%s: %+v %+v", name, found, totals)
		}
		for _, c := range found {
			if d.would(c) != would {
				t.Errorf("%s: %s, want %s: %s", name, d.would(c), would, c.Message)
			}
		}
	}
	partial := func(steps string) string { return "policies:\n  partial_service:\n" + steps }
	half := partial("    - {to: provider, share: \"0.5\"}\n    - {to: funders, share: remaining}\n")
	third := partial("    - {to: provider, share: \"0.33333333\"}\n    - {to: \"" + addressOf(d.judge) + "\", share: remaining}\n")
	want("the same policies", "limits: []\n", "", noNode...)
	want("a limit", "limits:\n  - {per: session, amount: \"15\"}\n", "difference alice 0 bob 0 limit_exceeded", noNode...)
	want("all to the provider", partial("    - {to: provider, share: \"100%\"}\n"), "difference alice 0 bob 15.000001", noNode...)
	want("a role that the outcomes don't have", partial("    - {to: winner, share: \"100%\"}\n"), "difference alice 0 bob 0 invalid_outcome", noNode...)
	want("rounding, and the smallest unit is not known", third, "not_comparable", noNode...)
	if protocol == clearnodetest.Legacy {
		want("rounding", third, "difference alice 0 judge 10.000001") // bob was paid 5
		want("funders, whom the outcomes name", half, "difference alice 7.500001 bob 7.5")
		return
	}
	want("rounding", third, "difference alice 0 bob 5 judge 10.000001")
	want("funders, without the node", half, "not_comparable", noNode...)
	want("funders", half, "difference alice 5 bob 10.000001")
}
