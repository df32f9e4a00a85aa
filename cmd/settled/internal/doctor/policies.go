package doctor

import (
	"maps"
	"slices"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// policyDigests compares the policies of the ledger's newest entries with the configuration's.
type policyDigests struct {
	cfg    *config.Config
	ours   map[settlement.Scenario]uint64           // sequence of the first entry by our policy
	others map[settlement.Scenario]settlement.Entry // the last entry by another one
}

func (p *policyDigests) observe(e settlement.Entry) {
	switch {
	case e.Policy == nil:
	case *e.Policy != p.cfg.Policies[e.Scenario].Ref():
		p.others[e.Scenario] = e
	case p.ours[e.Scenario] == 0:
		p.ours[e.Scenario] = e.Sequence
	}
}

// report warns of a scenario whose last entry by another policy is not older than every entry
// by ours. If it is older, the policy was changed since.
func (p *policyDigests) report(d *Doctor) {
	differ := false
	for _, scenario := range slices.Sorted(maps.Keys(p.others)) {
		e, ours := p.others[scenario], p.cfg.Policies[scenario].Ref().Digest
		if first := p.ours[scenario]; first > 0 && e.Sequence < first {
			continue
		}
		differ = true
		if ours == "" {
			ours = "none"
		}
		d.warn("policies."+string(scenario), "compare `settled policy list` of every replica, give all the same policies, and restart those that were changed; if the policy was changed on purpose after that entry, nothing is wrong",
			"entry %d of %s was made by the policy %s, and this configuration's is %s", e.Sequence, terminal.FormatTime(e.Time), e.Policy.Digest, ours)
	}
	if !differ {
		d.ok("policies", "the newest entries were made by the policies of this configuration")
	}
}
