package settlement

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseAmount(t *testing.T) {
	for _, bad := range []string{"", " 1", "1 ", "+1", "-1", "-0", "1e3", "1E3", "0x1", "NaN", "Inf", "1.", ".1", "01", "1_0", "1,5", "1.2.3", "٣", strings.Repeat("9", 79)} {
		if a, err := ParseAmount(bad); err == nil {
			t.Errorf("ParseAmount(%q) = %s, want an error", bad, a)
		}
	}
	for in, want := range map[string]string{"0": "0", "0.0": "0", "8.000": "8", "0.10": "0.1", "100": "100", strings.Repeat("9", 78): strings.Repeat("9", 78)} {
		a, err := ParseAmount(in)
		if err != nil || a.String() != want {
			t.Errorf("ParseAmount(%q) = %s, %v, want %s", in, a, err, want)
		}
	}
}

func TestAmountArithmeticIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		decimals := int32(rapid.IntRange(0, 30).Draw(t, "decimals"))
		x := AmountOfUnits(new(big.Int).SetUint64(rapid.Uint64().Draw(t, "x")), decimals)
		y := AmountOfUnits(new(big.Int).SetUint64(rapid.Uint64().Draw(t, "y")), decimals)
		back, err := x.Add(y).Sub(y)
		if err != nil || !back.Equal(x) {
			t.Fatalf("%s + %s - %s = %s, %v", x, y, y, back, err)
		}
		again, err := ParseAmount(x.String())
		if err != nil || !again.Equal(x) || again.String() != x.String() {
			t.Fatalf("%s reads back as %s, %v", x, again, err)
		}
		if x.Decimals() > decimals || x.Units(decimals).Cmp(x.Units(x.Decimals()).Mul(x.Units(x.Decimals()), pow10(decimals-x.Decimals()))) != 0 {
			t.Fatalf("%s: %d decimals", x, x.Decimals())
		}
	})
}

func pow10(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func TestAmountNumberIsRefused(t *testing.T) {
	var a Amount
	if err := a.UnmarshalJSON([]byte(`7`)); err == nil {
		t.Error("a JSON number was taken for an amount")
	}
	if _, err := (Amount{}).Sub(AmountOfUnits(big.NewInt(1), 0)); err == nil {
		t.Error("below zero")
	}
}
