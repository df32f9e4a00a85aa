package simulate

import (
	"math/big"
	"slices"
	"testing"
)

// The example of the contract: a put in 6 units, b 2, c provides 0.3 of it.
func TestApportion(t *testing.T) {
	rat := big.NewRat
	for _, c := range []struct {
		quotas  []*big.Rat
		balance int64
		want    []int64
	}{
		{[]*big.Rat{rat(42, 10), rat(14, 10), rat(24, 10)}, 8, []int64{4, 2, 2}},
		{[]*big.Rat{rat(1, 2), rat(1, 2)}, 1, []int64{1, 0}},
		{[]*big.Rat{rat(0, 1), rat(1, 3), rat(1, 3), rat(1, 3)}, 1, []int64{0, 1, 0, 0}},
		{[]*big.Rat{rat(5, 3), rat(5, 3), rat(5, 3)}, 5, []int64{2, 2, 1}},
		{[]*big.Rat{rat(7, 1), rat(0, 1)}, 7, []int64{7, 0}},
	} {
		if got := apportion(c.quotas, c.balance); !slices.Equal(got, c.want) {
			t.Errorf("%v of %d: %v, want %v", c.quotas, c.balance, got, c.want)
		}
	}
}
