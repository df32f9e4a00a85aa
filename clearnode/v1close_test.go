package clearnode

import (
	"fmt"
	"testing"
	"time"

	"settled/settlement"
)

// TestV1OnlyClose: which releases are shown to be the close's by the session's version,
// where their times tell nothing.
func TestV1OnlyClose(t *testing.T) {
	a, b := party(1).Address(), party(2).Address()
	at := time.Unix(1_800_000_000, 0)
	type move struct {
		of     settlement.Address
		amount string
		after  time.Duration
	}
	in := []move{{a, "10", 0}, {b, "5", 0}}
	for name, c := range map[string]struct {
		out     []move
		version uint64 // once closed; 3 with both deposits
		told    bool
	}{
		"as put in":                            {[]move{{a, "10", 0}, {b, "5", 7 * time.Second}}, 4, true},
		"by an operate":                        {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 5, true},
		"an operate, or a withdrawal":          {[]move{{a, "10", 0}, {b, "5", 7 * time.Second}}, 5, false},
		"an operate, and perhaps a withdrawal": {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 6, false},
		"two of one payee, in two updates":     {[]move{{a, "4", 0}, {a, "6", 7 * time.Second}, {b, "5", 7 * time.Second}}, 5, false},
		"fewer updates than there must be":     {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 4, false},
		"nothing paid":                         {nil, 4, false},
	} {
		v := &v1{}
		r := &v1Reading{v: v, id: "0x01"}
		s := settlement.Session{}
		for _, p := range []settlement.Address{a, b} {
			s.Participants = append(s.Participants, settlement.Participant{Address: p, Spelling: p.String()})
		}
		l := r.ledger(s)
		fill := func(kind uint8, moves []move) {
			for i, m := range moves {
				list := v.book.list(m.of.String(), kind)
				sum, err := settlement.ParseAmount(m.amount)
				if err != nil {
					t.Fatal(err)
				}
				entry := v1Move{id: fmt.Sprint(kind, i), session: r.id, Transfer: settlement.Transfer{Wallet: m.of, Asset: "usdc", Amount: sum, At: at.Add(m.after)}}
				list.add(v1Page{rows: []v1Entry{{id: entry.id, at: entry.At, move: &entry}}})
				list.total++
			}
		}
		fill(v1Commit, in)
		fill(v1Release, c.out)
		for _, list := range l.lists {
			list.read = time.Now().Add(time.Hour) // nothing is asked
		}
		of, err := l.onlyClose(t.Context(), c.version)
		if err != nil || (of != nil) != c.told || c.told && len(of) != len(c.out) {
			t.Errorf("%s: %v, %v", name, of, err)
		}
		if c.told && of[0].At.After(of[len(of)-1].At) {
			t.Errorf("%s: not oldest first", name)
		}
	}
}
