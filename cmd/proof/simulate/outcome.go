package simulate

import (
	"encoding/json"
	"fmt"

	"settled/settlement"
)

// deal is an outcome as its publisher meant it: what the product has to make of it
// is worked out from here, not from what the product reads.
type deal struct {
	name       string
	id         string
	scenario   settlement.Scenario
	session    *appSession // nil: nobody can read which
	provider   int         // participant; -1: a stranger
	winners    []int
	completion string
	awards     []award
	totals     []int64 // by asset; nil: nothing is expected
	version    uint64  // 0: nothing is expected
	funder     int     // where the node hides it
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
	none       flaw = ""
	unreadable flaw = "unreadable session"
	malformed  flaw = "malformed"
	lacking    flaw = "lacks a role"
	unheardOf  flaw = "unknown scenario"
	alien      flaw = "pays a stranger"
	mistaken   flaw = "expects other totals"
	stale      flaw = "expects another version"
	unstated   flaw = "doesn't state what the node hides"
)

// drawDeals draws the outcomes of one session: some of them rivals of one another,
// some with the same id.
func (w *world) drawDeals(s *appSession) {
	c := w.choices
	first := len(w.scene.deals)
	for i := range 1 + c.pick(6)/3 + c.pick(8)/7 {
		d := w.drawDeal(s)
		d.name = "o" + utoa(uint64(len(w.scene.deals)+1))
		d.id = d.name
		if i > 0 && c.pick(5) == 4 {
			d.id = w.scene.deals[first].id
		}
		d.payload = d.event(w.dialect)
		w.scene.deals = append(w.scene.deals, d)
	}
}

var scenarios = []settlement.Scenario{
	settlement.PartialService, settlement.GameCompleted, settlement.Cancellation, noShow,
	settlement.DisputeResolved, league, settlement.PaymentCompleted,
}

func (w *world) drawDeal(s *appSession) *deal {
	c := w.choices
	n := len(s.participants) - 1
	d := &deal{session: s, scenario: scenarios[c.pick(len(scenarios))], provider: c.pick(n), funder: c.pick(n)}
	d.winners = []int{c.pick(n)}
	if c.pick(2) == 1 {
		d.winners = []int{(d.winners[0] + 1) % n, d.winners[0]}
	}
	d.completion = []string{"0.3", "0.5", "1", "0", "0.333333333333", "0.999"}[c.pick(6)]
	if w.dialect == Legacy || c.pick(6) == 5 {
		d.totals = make([]int64, s.assets)
		for asset := range d.totals {
			d.totals[asset] = s.balance(asset)
		}
	}
	if c.pick(12) == 11 {
		d.version = s.version
	}
	w.drawAwards(d)
	w.drawFlaw(d)
	return d
}

func (w *world) drawAwards(d *deal) {
	n := len(d.session.participants)
	a, b := w.choices.pick(n), w.choices.pick(n)
	if w.choices.pick(2) == 0 {
		d.awards = []award{{to: a, share: "0.7"}, {to: b, share: "0.3"}}
		return
	}
	for asset := range d.session.assets {
		all := d.session.balance(asset)
		part := w.choices.below(all + 1)
		d.awards = append(d.awards, award{to: a, asset: asset, units: part}, award{to: b, asset: asset, units: all - part})
	}
}

func (w *world) drawFlaw(d *deal) {
	if w.choices.pick(8) != 7 {
		return
	}
	flaws := []flaw{lacking, unreadable, malformed, unheardOf, alien, mistaken, stale, unstated}
	d.flaw = flaws[w.choices.pick(len(flaws))]
	switch d.flaw {
	case unheardOf:
		d.scenario = "never_heard_of"
	case alien:
		d.scenario, d.provider = settlement.PaymentCompleted, -1
	case lacking:
		d.scenario = settlement.PaymentCompleted
	case mistaken:
		d.totals = make([]int64, d.session.assets)
		for asset := range d.totals {
			d.totals[asset] = d.session.balance(asset) + 1
		}
	case stale:
		d.version = 77
	case unstated:
		if w.dialect != Legacy {
			d.flaw = none
			return
		}
		d.totals = nil
	}
}

func (d *deal) subject() string { return "outcome." + string(d.scenario) }

// event is the outcome as it is published.
func (d *deal) event(dialect Dialect) []byte {
	if d.flaw == malformed {
		return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/sim","type":%q,"data":{"session_id":%q,"parties":7}}`, d.id, d.subject(), d.session.id)
	}
	text, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": d.id, "source": "/sim", "type": d.subject(), "data": d.data(dialect),
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

func (d *deal) data(dialect Dialect) map[string]any {
	data := map[string]any{"session_id": string(d.session.id), "completion": d.completion, "reference": d.name}
	if d.flaw == unreadable {
		data["session_id"] = "0x12"
	}
	parties := map[string]any{"winner": d.addresses(d.winners...)}
	if d.flaw != lacking {
		parties["provider"] = d.addresses(d.provider)[0]
	}
	if dialect == Legacy && d.flaw != unstated {
		parties["funder"] = d.addresses(d.funder)[0]
	}
	data["parties"] = parties
	if d.scenario == settlement.DisputeResolved {
		data["awards"] = d.awarded()
	}
	expect := map[string]any{}
	if d.totals != nil {
		expect["totals"] = d.stated()
	}
	if d.version > 0 {
		expect["version"] = d.version
	}
	if len(expect) > 0 {
		data["expect"] = expect
	}
	return data
}

func (d *deal) stated() []any {
	var totals []any
	for asset, units := range d.totals {
		totals = append(totals, map[string]string{"asset": string(assets[asset].name), "amount": amountOf(units, asset).String()})
	}
	return totals
}

func (d *deal) addresses(of ...int) []string {
	list := make([]string, len(of))
	for i, n := range of {
		list[i] = spelled[stranger]
		if n >= 0 {
			list[i] = spelled[d.session.participants[n].Address]
		}
	}
	return list
}

func (d *deal) awarded() []any {
	var list []any
	for _, a := range d.awards {
		row := map[string]string{"participant": d.addresses(a.to)[0], "share": a.share}
		if a.share == "" {
			row = map[string]string{"participant": d.addresses(a.to)[0], "asset": string(assets[a.asset].name), "amount": amountOf(a.units, a.asset).String()}
		}
		list = append(list, row)
	}
	return list
}

func (d *deal) String() string {
	text := fmt.Sprintf("%s %s of %s", d.name, d.scenario, d.session)
	if d.flaw != none {
		text += " (" + string(d.flaw) + ")"
	}
	return text
}
