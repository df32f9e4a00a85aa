package clearnode

import (
	"slices"

	"settled/settlement"
)

// legacyRows is a plan as this generation takes it: exactly one row for each
// participant, in the order of the definition, 0 where nothing is due, and all of
// one asset.
//
// A row takes out of the session only what its own participant put in of the row's
// own asset, and an asset that no row names is not looked at (source, measured). So
// with two assets money stays in the closed session, or is paid out and stays there
// as well, unless everybody happens to get what they put in; and who put in what
// this node doesn't show. Such plans are refused.
func legacyRows(plan []settlement.Allocation, s settlement.Session) ([]settlement.Allocation, *settlement.Failure) {
	if f := checkLegacySpelling(s); f != nil {
		return nil, f
	}
	if len(plan) == 0 {
		return nil, settlement.Fail(settlement.AllocationRejected, "the plan names no asset, and this node wants a row for each participant")
	}
	asset, due := plan[0].Asset, map[string]settlement.Amount{}
	for _, a := range plan {
		if !slices.ContainsFunc(s.Participants, func(p settlement.Participant) bool { return p.Spelling == a.Participant }) {
			return nil, settlement.Fail(settlement.NotAParticipant, "%s is no participant of the session, or is spelled otherwise there", quote(a.Participant))
		}
		if a.Amount.IsZero() {
			continue
		}
		if _, twice := due[a.Participant]; twice && a.Asset == asset {
			return nil, settlement.Fail(settlement.AllocationRejected, "%s stands twice in the plan", a.Participant)
		}
		if len(due) > 0 && a.Asset != asset {
			return nil, settlement.Fail(settlement.AllocationRejected, "the plan pays %s as well as %s, and this node settles sessions of one asset only: of two it would keep money, or make some", quote(string(asset)), quote(string(a.Asset)))
		}
		asset, due[a.Participant] = a.Asset, a.Amount
	}
	rows := make([]settlement.Allocation, len(s.Participants))
	for i, p := range s.Participants {
		rows[i] = settlement.Allocation{Participant: p.Spelling, Asset: asset, Amount: due[p.Spelling]}
	}
	return rows, nil
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
