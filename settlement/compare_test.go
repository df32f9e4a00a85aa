package settlement

import (
	"fmt"
	"testing"
	"time"
)

func TestPaidOtherwise(t *testing.T) {
	a, b := Address{1}, Address{2}
	at := func(w Address, amount string, n int) Transfer {
		v, err := ParseAmount(amount)
		if err != nil {
			t.Fatal(err)
		}
		return Transfer{Wallet: w, Asset: "usdc", Amount: v, At: time.Unix(int64(n), 0)}
	}
	row := func(w Address, amount string) Allocation {
		v, _ := ParseAmount(amount)
		return Allocation{Participant: w.String(), Asset: "usdc", Amount: v}
	}
	closed := Entry{Allocation: []Allocation{row(a, "7"), row(b, "3"), {Participant: Address{9}.String(), Asset: "usdc"}}}
	zero := at(Address{9}, "0", 2)
	for it, c := range map[string]struct {
		s          Session
		want       string // wallet's first byte: recorded/paid
		comparable bool
	}{
		"as recorded":                      {Session{Payouts: []Transfer{at(b, "3", 2), at(a, "7.0", 2), zero}}, "", true},
		"after a withdrawal":               {Session{Payouts: []Transfer{at(a, "5", 1), at(b, "3", 2), at(a, "7", 2), zero}}, "", true},
		"found closed after a withdrawal":  {Session{Payouts: []Transfer{at(a, "5", 1), at(b, "3", 2), at(a, "2", 2), zero}}, "", true},
		"one row less":                     {Session{Payouts: []Transfer{at(b, "3", 2), at(a, "6", 2), zero}}, "1:7/6", true},
		"to somebody else":                 {Session{Payouts: []Transfer{at(b, "3", 2), at(Address{3}, "7", 2), zero}}, "1:7/0 3:0/7", true},
		"nothing":                          {Session{}, "1:7/0 2:3/0", true},
		"not shown":                        {Session{Undisclosed: Undisclosed{Payouts: true}}, "", false},
		"versioned":                        {Session{Versioned: true, Payouts: []Transfer{at(a, "7", 2), at(b, "3", 2)}}, "", true},
		"versioned, of which one is other": {Session{Versioned: true, Payouts: []Transfer{at(a, "7", 2), at(b, "4", 2)}}, "2:3/4", true},
	} {
		rows, comparable := c.s.PaidOtherwise(closed)
		got := ""
		for i, r := range rows {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%d:%s/%s", r.Wallet[0], r.Recorded, r.Paid)
		}
		if got != c.want || comparable != c.comparable {
			t.Errorf("%s: %q, comparable %v", it, got, comparable)
		}
	}
}
