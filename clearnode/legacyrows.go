package clearnode

import (
	"slices"

	"settled/settlement"
)

// legacyRows is a plan as this generation takes it: exactly one row for each
// participant, in the order of the definition, 0 where nothing is due. A plan that
// gives two assets to one participant can't be carried out.
//
// The node looks at no asset that no row names: its money would stay in the closed
// session for ever. So every asset of the plan is named; one with something in it
// is named by who gets it.
func legacyRows(plan []settlement.Allocation, s settlement.Session) ([]settlement.Allocation, *settlement.Failure) {
	if f := checkLegacySpelling(s); f != nil {
		return nil, f
	}
	due := map[string]settlement.Allocation{}
	var assets, named []settlement.Asset
	for _, a := range plan {
		if !slices.ContainsFunc(s.Participants, func(p settlement.Participant) bool { return p.Spelling == a.Participant }) {
			return nil, settlement.Fail(settlement.NotAParticipant, "%s is no participant of the session, or is spelled otherwise there", quote(a.Participant))
		}
		if !slices.Contains(assets, a.Asset) {
			assets = append(assets, a.Asset)
		}
		if a.Amount.IsZero() {
			continue
		}
		if other, twice := due[a.Participant]; twice {
			return nil, settlement.Fail(settlement.AllocationRejected, "%s is due %s as well as %s, and this node pays each participant one asset only: it can't carry out this plan",
				a.Participant, quote(string(other.Asset)), quote(string(a.Asset)))
		}
		due[a.Participant] = a
		named = append(named, a.Asset)
	}
	if len(assets) == 0 {
		return nil, settlement.Fail(settlement.AllocationRejected, "the plan names no asset, and this node wants a row for each participant")
	}
	return fillLegacyRows(s, due, assets, named), nil
}

// fillLegacyRows gives who gets nothing a row of 0: of an asset that no row names
// yet, or else of the plan's first.
func fillLegacyRows(s settlement.Session, due map[string]settlement.Allocation, assets, named []settlement.Asset) []settlement.Allocation {
	rows := make([]settlement.Allocation, len(s.Participants))
	for i, p := range s.Participants {
		row, paid := due[p.Spelling]
		if !paid {
			row = settlement.Allocation{Participant: p.Spelling, Asset: assets[0]}
			at := slices.IndexFunc(assets, func(a settlement.Asset) bool { return !slices.Contains(named, a) })
			if at >= 0 {
				row.Asset = assets[at]
				named = append(named, row.Asset)
			}
		}
		rows[i] = row
	}
	return rows
}

// checkLegacySpelling refuses a definition that spells a participant otherwise than
// with its EIP-55 checksum. The node compares participants in any case, but keeps
// their money by the spelling: what they put in is under the checksummed one,
// because of that it demands a signature, and is not seen when the session is
// closed under another; what they are paid under another is theirs nowhere
// (measured: the money is gone).
func checkLegacySpelling(s settlement.Session) *settlement.Failure {
	seen := map[settlement.Address]bool{}
	for _, p := range s.Participants {
		if p.Spelling != p.Address.String() {
			return settlement.Fail(settlement.AllocationRejected,
				"the session's definition spells participant %s as %s: this node keeps money by the spelling, and would pay it to an account that is nobody's; the session can't be settled without loss, ask the node's operator", p.Address, p.Spelling)
		}
		if seen[p.Address] {
			return settlement.Fail(settlement.AllocationRejected, "the session lists participant %s twice", p.Address)
		}
		seen[p.Address] = true
	}
	return nil
}
