package workload

import (
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
)

// Every scenario pays out exactly what was deposited, with every protocol.
func TestScenariosPayEverything(t *testing.T) {
	for _, protocol := range Protocols {
		terms := termsOf(protocol)
		want := map[string]decimal.Decimal{}
		for _, d := range terms.deposits {
			want[d.asset] = want[d.asset].Add(decimal.RequireFromString(d.amount))
		}
		for _, scenario := range Scenarios {
			left := map[string]decimal.Decimal{}
			for asset, amount := range want {
				left[asset] = amount
			}
			for _, row := range strings.Split(terms.paid[scenario], ", ") {
				words := strings.Fields(row)
				left[words[1]] = left[words[1]].Sub(decimal.RequireFromString(words[2]))
			}
			for asset, amount := range left {
				if !amount.IsZero() {
					t.Errorf("%s, %s: %s %s of the deposits are not paid", protocol, scenario, amount, asset)
				}
			}
		}
	}
}

func TestOpenSession(t *testing.T) {
	for _, protocol := range Protocols {
		n, err := StartNode(protocol, t.TempDir(), clearnodetest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		first, err := n.OpenSession(PairOf(1))
		if err != nil {
			t.Fatal(err)
		}
		second, err := n.OpenSession(PairOf(1))
		if err != nil || first == second {
			t.Errorf("%s: sessions %s and %s, %v", protocol, first, second, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
