package settlement

import (
	"errors"
	"fmt"
	"math/big"
)

func (r *reader) awards() []Award {
	list := r.list("awards", MaxAwards)
	awards := make([]Award, 0, len(list))
	for i, v := range list {
		a, err := readAward(v)
		if err != nil {
			r.fail("awards[%d]: %w", i, err)
			return nil
		}
		if i > 0 && (a.Share == nil) != (awards[0].Share == nil) {
			r.fail("awards[%d]: shares and amounts may not be mixed", i)
			return nil
		}
		awards = append(awards, a)
	}
	r.checkShares(awards)
	return awards
}

// checkShares: awards by share divide the whole, exactly.
func (r *reader) checkShares(awards []Award) {
	if len(awards) == 0 || awards[0].Share == nil {
		return
	}
	sum := new(big.Rat)
	for _, a := range awards {
		sum.Add(sum, a.Share)
	}
	if sum.Cmp(one) != 0 {
		r.fail("awards: the shares sum to %s, want exactly 1", ratString(sum))
	}
}

func readAward(v any) (Award, error) {
	members, ok := v.(map[string]any)
	if !ok {
		return Award{}, errors.New("want an object")
	}
	if err := onlyMembers(members, "participant", "share", "asset", "amount"); err != nil {
		return Award{}, err
	}
	participant, err := addressOf(members["participant"])
	if err != nil {
		return Award{}, fmt.Errorf("participant: %w", err)
	}
	a := Award{Participant: participant}
	if share, present := members["share"]; present {
		if len(members) != 2 {
			return Award{}, errors.New("want either share, or asset and amount")
		}
		a.Share, err = parseFraction(share)
		return a, wrap("share", err)
	}
	t, err := readTotal(members)
	a.Asset, a.Amount = t.Asset, t.Amount
	return a, err
}
