package simulate

import (
	"encoding/json"
	"fmt"

	"settled/settlement"
)

// expectedOutcome is an outcome as its publisher meant it. What settled has to make of
// it is computed from here, not from what settled parses.
type expectedOutcome struct {
	name       string
	id         string
	scenario   settlement.Scenario
	session    *appSession
	provider   int // participant; -1: a stranger
	winners    []int
	completion string
	awards     []award
	totals     []int64 // expected, by asset; nil: none
	version    uint64  // expected; 0: none
	funder     int     // named where the node hides the deposits
	flaw       flaw
	payload    []byte
}

type award struct {
	to    int
	share string // empty: units of asset
	asset int
	units int64
}

// flaw is what is wrong with an outcome.
type flaw string

const (
	flawNone              flaw = ""
	flawUnreadableSession flaw = "unreadable session"
	flawMalformed         flaw = "malformed"
	flawMissingRole       flaw = "missing role"
	flawUnknownScenario   flaw = "unknown scenario"
	flawPaysStranger      flaw = "pays a stranger"
	flawWrongTotals       flaw = "expects other totals"
	flawWrongVersion      flaw = "expects another version"
	flawMissingFunder     flaw = "does not name the funder that the node hides"
)

// drawOutcomes draws the outcomes of one session. Some of them have the same id.
func (w *world) drawOutcomes(s *appSession) {
	c := w.choices
	first := len(w.outcomes)
	for i := range 1 + c.pick(6)/3 + c.pick(8)/7 {
		o := w.drawOutcome(s)
		o.name = fmt.Sprintf("o%d", len(w.outcomes)+1)
		o.id = o.name
		if i > 0 && c.pick(5) == 4 {
			o.id = w.outcomes[first].id
		}
		o.payload = o.event(w.dialect)
		w.outcomes = append(w.outcomes, o)
	}
}

var scenarios = []settlement.Scenario{
	settlement.PartialService, settlement.GameCompleted, settlement.Cancellation, noShow,
	settlement.DisputeResolved, league, settlement.PaymentCompleted,
}

func (w *world) drawOutcome(s *appSession) *expectedOutcome {
	c := w.choices
	n := len(s.participants) - 1
	o := &expectedOutcome{session: s, scenario: scenarios[c.pick(len(scenarios))], provider: c.pick(n), funder: c.pick(n)}
	o.winners = []int{c.pick(n)}
	if c.pick(2) == 1 {
		o.winners = []int{(o.winners[0] + 1) % n, o.winners[0]}
	}
	o.completion = []string{"0.3", "0.5", "1", "0", "0.333333333333", "0.999"}[c.pick(6)]
	if w.dialect == Legacy || c.pick(6) == 5 {
		o.totals = s.balances()
	}
	if c.pick(12) == 11 {
		o.version = s.version
	}
	w.drawAwards(o)
	if c.pick(8) == 7 {
		w.drawFlaw(o)
	}
	return o
}

func (w *world) drawAwards(o *expectedOutcome) {
	n := len(o.session.participants)
	a, b := w.choices.pick(n), w.choices.pick(n)
	if w.choices.pick(2) == 0 {
		o.awards = []award{{to: a, share: "0.7"}, {to: b, share: "0.3"}}
		return
	}
	for asset, balance := range o.session.balances() {
		part := w.choices.below(balance + 1)
		o.awards = append(o.awards, award{to: a, asset: asset, units: part}, award{to: b, asset: asset, units: balance - part})
	}
}

func (w *world) drawFlaw(o *expectedOutcome) {
	flaws := []flaw{flawMissingRole, flawUnreadableSession, flawMalformed, flawUnknownScenario, flawPaysStranger, flawWrongTotals, flawWrongVersion, flawMissingFunder}
	o.flaw = flaws[w.choices.pick(len(flaws))]
	switch o.flaw {
	case flawUnknownScenario:
		o.scenario = "never_heard_of"
	case flawPaysStranger:
		o.scenario, o.provider = settlement.PaymentCompleted, -1
	case flawMissingRole:
		o.scenario = settlement.PaymentCompleted
	case flawWrongTotals:
		o.totals = o.session.balances()
		for asset := range o.totals {
			o.totals[asset]++
		}
	case flawWrongVersion:
		o.version = 77
	case flawMissingFunder:
		if w.dialect != Legacy {
			o.flaw = flawNone
			return
		}
		o.totals = nil
	}
}

func (o *expectedOutcome) subject() string { return "outcome." + string(o.scenario) }

// event encodes the outcome as a CloudEvent.
func (o *expectedOutcome) event(dialect Dialect) []byte {
	var data any = o.data(dialect)
	if o.flaw == flawMalformed {
		data = map[string]any{"session_id": o.session.id, "parties": 7}
	}
	text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": o.id, "source": "/sim", "type": o.subject(), "data": data})
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

func (o *expectedOutcome) data(dialect Dialect) map[string]any {
	winners := make([]string, len(o.winners))
	for i, n := range o.winners {
		winners[i] = o.address(n)
	}
	parties := map[string]any{"winner": winners}
	if o.flaw != flawMissingRole {
		parties["provider"] = o.address(o.provider)
	}
	if dialect == Legacy && o.flaw != flawMissingFunder {
		parties["funder"] = o.address(o.funder)
	}
	data := map[string]any{"session_id": string(o.session.id), "completion": o.completion, "reference": o.name, "parties": parties}
	if o.flaw == flawUnreadableSession {
		data["session_id"] = "0x12"
	}
	if o.scenario == settlement.DisputeResolved {
		var rows []map[string]string
		for _, a := range o.awards {
			row := map[string]string{"participant": o.address(a.to), "share": a.share}
			if a.share == "" {
				row = map[string]string{"participant": o.address(a.to), "asset": string(assets[a.asset].name), "amount": amountOf(a.units, a.asset).String()}
			}
			rows = append(rows, row)
		}
		data["awards"] = rows
	}
	expect := map[string]any{}
	if o.totals != nil {
		var totals []map[string]string
		for asset, units := range o.totals {
			totals = append(totals, map[string]string{"asset": string(assets[asset].name), "amount": amountOf(units, asset).String()})
		}
		expect["totals"] = totals
	}
	if o.version > 0 {
		expect["version"] = o.version
	}
	if len(expect) > 0 {
		data["expect"] = expect
	}
	return data
}

func (o *expectedOutcome) address(participant int) string {
	if participant < 0 {
		return checksummed[stranger]
	}
	return checksummed[o.session.participants[participant].Address]
}

func (o *expectedOutcome) String() string {
	text := fmt.Sprintf("%s %s of %s", o.name, o.scenario, o.session)
	if o.flaw != flawNone {
		text += " (" + string(o.flaw) + ")"
	}
	return text
}
