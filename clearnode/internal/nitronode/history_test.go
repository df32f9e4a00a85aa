package nitronode

import (
	"fmt"
	"testing"
	"time"

	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// TestV1OnlyClose: which releases are shown to be the close's by the session's version,
// where their times tell nothing.
func TestV1OnlyClose(t *testing.T) {
	a, b := protocoltest.NewKey(t, 1).Address(), protocoltest.NewKey(t, 2).Address()
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
		certain bool
	}{
		"as put in":                            {[]move{{a, "10", 0}, {b, "5", 7 * time.Second}}, 4, true},
		"by an operate":                        {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 5, true},
		"an operate, or a withdrawal":          {[]move{{a, "10", 0}, {b, "5", 7 * time.Second}}, 5, false},
		"an operate, and perhaps a withdrawal": {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 6, false},
		"two of one payee, in two updates":     {[]move{{a, "4", 0}, {a, "6", 7 * time.Second}, {b, "5", 7 * time.Second}}, 5, false},
		"fewer updates than there must be":     {[]move{{a, "12", 0}, {b, "3", 7 * time.Second}}, 4, false},
		"nothing paid":                         {nil, 4, false},
	} {
		v := &Node{}
		r := &sessionReader{n: v, id: "0x01"}
		s := settlement.Session{}
		for _, p := range []settlement.Address{a, b} {
			s.Participants = append(s.Participants, settlement.Participant{Address: p, Spelling: p.String()})
		}
		l := r.openHistory(s)
		fill := func(kind transactionType, moves []move) {
			for i, m := range moves {
				list := v.transactions.list(m.of.String(), kind)
				sum, err := settlement.ParseAmount(m.amount)
				if err != nil {
					t.Fatal(err)
				}
				entry := movement{id: fmt.Sprint(kind, i), session: r.id, Transfer: settlement.Transfer{Wallet: m.of, Asset: "usdc", Amount: sum, At: at.Add(m.after)}}
				list.add([]transaction{{id: entry.id, at: entry.At, movement: &entry}})
				list.total++
			}
		}
		fill(typeDeposit, in)
		fill(typeRelease, c.out)
		for _, list := range l.lists {
			list.readAt = time.Now().Add(time.Hour) // nothing is asked
		}
		of, err := l.releasesOfOnlyClose(t.Context(), c.version)
		if err != nil || (of != nil) != c.certain || c.certain && len(of) != len(c.out) {
			t.Errorf("%s: %v, %v", name, of, err)
		}
		if c.certain && of[0].At.After(of[len(of)-1].At) {
			t.Errorf("%s: not oldest first", name)
		}
	}
}
