package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"settled/settlement"
)

// Backtest compares what closed entries paid with what other policies and limits would pay.
type Backtest struct {
	Policies settlement.Policies
	Limits   settlement.Limits
	// OutcomeFunc reads a message of OUTCOMES. Errors: ErrGone.
	OutcomeFunc func(context.Context, uint64) (settlement.Outcome, error)
	// SessionFunc reads a session at the node; nil: the node is not read.
	SessionFunc func(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error)

	mu       sync.Mutex
	decimals map[settlement.Asset]int32 // -1: the node does not list the asset
}

// ErrGone means that a message is no longer in its stream.
var ErrGone = errors.New("the message is no longer in the stream")

// The kinds of line that `settled policy backtest` prints.
const (
	KindDifference    = "difference"
	KindNotComparable = "not_comparable"
	KindSummary       = "summary"
)

// Comparison is the result for one closed session.
type Comparison struct {
	Kind        string               `json:"kind"`     // difference or not_comparable
	Sequence    uint64               `json:"sequence"` // of the closed entry
	Session     settlement.SessionID `json:"session_id"`
	Scenario    settlement.Scenario  `json:"scenario"`
	Policy      string               `json:"policy"`      // digest of the policy that paid
	Against     string               `json:"against"`     // digest of the other policy; empty if there is none
	Code        string               `json:"code"`        // with which the outcome would fail; empty: it would pay
	Message     string               `json:"message"`     // of that failure, or why the session can't be compared
	Differences []PaidDifference     `json:"differences"` // by participant and asset
}

// PaidDifference is what a participant would have received instead of what it was paid.
type PaidDifference struct {
	Participant string            `json:"participant"`
	Asset       settlement.Asset  `json:"asset"`
	Paid        settlement.Amount `json:"paid"`
	Would       settlement.Amount `json:"would"`      // receive
	Difference  string            `json:"difference"` // would less paid, with a minus sign if negative
}

// Totals is the last line of `settled policy backtest`.
type Totals struct {
	Kind          string        `json:"kind"` // summary
	Closed        uint64        `json:"closed"`
	Different     uint64        `json:"different"`      // sessions; those of would_fail included
	WouldFail     uint64        `json:"would_fail"`     // sessions
	NotComparable uint64        `json:"not_comparable"` // sessions
	Assets        []AssetTotals `json:"assets"`         // of the sessions that differ
}

// AssetTotals are the totals of one asset.
type AssetTotals struct {
	Asset settlement.Asset  `json:"asset"`
	More  settlement.Amount `json:"more"` // sum of what participants would have received more
	Less  settlement.Amount `json:"less"` // sum of what participants would have received less
}

// notComparable is why a session can't be compared.
type notComparable string

func (n notComparable) Error() string { return string(n) }

// Compare compares one closed entry. It returns a Comparison without a kind if everybody would
// have received the same. An error means that a stream or the node can't be read.
func (b *Backtest) Compare(ctx context.Context, e settlement.Entry) (Comparison, error) {
	c := Comparison{Sequence: e.Sequence, Session: e.Session, Scenario: e.Scenario, Differences: []PaidDifference{}}
	if e.Policy != nil {
		c.Policy = e.Policy.Digest
	}
	policy, known := b.Policies[e.Scenario]
	if known {
		c.Against = policy.Ref().Digest
	}
	rows, failure, err := b.rows(ctx, policy, e)
	var why notComparable
	if errors.As(err, &why) {
		c.Kind, c.Message = KindNotComparable, why.Error()
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if failure != nil {
		c.Kind, c.Code, c.Message = KindDifference, string(failure.Code), failure.Message
	}
	changed, err := compareRows(e.Allocation, rows)
	for _, d := range changed {
		c.Kind = KindDifference
		c.Differences = append(c.Differences, PaidDifference{d.Participant, d.Asset, d.Expected, d.Got, signed(d.Got, d.Expected)})
	}
	return c, err
}

// signed returns a-b.
func signed(a, b settlement.Amount) string {
	if d, err := a.Sub(b); err == nil {
		return d.String()
	}
	d, _ := b.Sub(a) // one of the two isn't negative
	return "-" + d.String()
}

// rows returns what the policy would have paid, or the failure of the outcome.
func (b *Backtest) rows(ctx context.Context, policy settlement.Policy, e settlement.Entry) ([]settlement.Allocation, *settlement.Failure, error) {
	if e.Policy != nil && e.Policy.Digest == policy.Ref().Digest { // the same rows; only the limits can differ
		if f := b.Limits.Check(e.Scenario, e.Allocation); f != nil {
			return nil, f, nil
		}
		return e.Allocation, nil, nil
	}
	if len(policy.Steps) == 0 {
		return nil, b.Policies.Check(settlement.Outcome{Scenario: e.Scenario}, nil), nil
	}
	o, err := b.OutcomeFunc(ctx, e.Outcome.Sequence)
	switch {
	case errors.Is(err, ErrGone):
		return nil, nil, notComparable(fmt.Sprintf("the outcome, message %d, is no longer in the stream", e.Outcome.Sequence))
	case err != nil:
		return nil, nil, err
	case !o.Ref.Same(e.Outcome):
		return nil, nil, notComparable(fmt.Sprintf("message %d of the stream is another outcome: the stream was restored from an older copy", e.Outcome.Sequence))
	}
	s, err := b.session(ctx, policy, o, e)
	if err != nil {
		return nil, nil, err
	}
	o.Expect = &settlement.Expect{Totals: sumRows(e.Allocation)} // the balance was compared when it was settled
	decision, _ := b.Policies.Explain(o, b.Limits, s)
	switch f := decision.Failure; {
	case f != nil && f.Code == settlement.AllocationRejected && s.Undisclosed.Balance:
		return nil, nil, notComparable(f.Message)
	case f != nil:
		return nil, f, nil
	case decision.Waiting != nil:
		return nil, nil, notComparable(decision.Waiting.Error())
	}
	return decision.Plan.Allocations, nil, nil
}

// session returns the session as it was before its close: by the entry, which has its
// participants and its balance, or if the policy needs who funded it, by the node.
func (b *Backtest) session(ctx context.Context, policy settlement.Policy, o settlement.Outcome, e settlement.Entry) (settlement.Session, error) {
	s := settlement.Session{ID: e.Session, Open: true, Undisclosed: settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}}
	for _, a := range e.Allocation {
		if n := len(s.Participants); n > 0 && s.Participants[n-1].Spelling == a.Participant {
			continue
		}
		address, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return s, notComparable(err.Error())
		}
		s.Participants = append(s.Participants, settlement.Participant{Address: address, Spelling: a.Participant})
	}
	var err error
	legacy := e.Node != nil && e.Node.Protocol == "nitrorpc/legacy" // whose outcomes name the funder
	if !policy.ReadOptions(o).Funding || legacy {
		s.Decimals, err = b.units(ctx, e)
		return s, err
	}
	if b.SessionFunc == nil {
		return s, notComparable("the policy pays those who funded the session, which only the node knows: leave out --no-node")
	}
	read, err := b.SessionFunc(ctx, e.Session, settlement.ReadOptions{Funding: true})
	if err != nil {
		return s, unreadable(err)
	}
	read = read.BeforeClose()
	if !sameTotals(e.Allocation, read.Balance()) {
		return s, notComparable("the balance before the close that the node shows is not what was paid: run settled reconcile")
	}
	return read, nil
}

// unreadable returns an error of the node that is about one session only as notComparable.
func unreadable(err error) error {
	var permanent *settlement.Failure
	if errors.Is(err, settlement.ErrSessionNotFound) || errors.As(err, &permanent) {
		return notComparable(err.Error())
	}
	return err
}

// units returns the decimals of the assets that are known. An asset that isn't is looked for
// once, in the session of the entry at the node.
func (b *Backtest) units(ctx context.Context, e settlement.Entry) (map[settlement.Asset]int32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.decimals == nil {
		b.decimals = map[settlement.Asset]int32{}
	}
	for _, t := range sumRows(e.Allocation) {
		if _, known := b.decimals[t.Asset]; known || b.SessionFunc == nil {
			continue
		}
		read, err := b.SessionFunc(ctx, e.Session, settlement.ReadOptions{})
		if err != nil {
			return nil, unreadable(err)
		}
		b.decimals[t.Asset] = -1
		maps.Copy(b.decimals, read.Decimals)
	}
	units := map[settlement.Asset]int32{}
	for asset, decimals := range b.decimals {
		if decimals >= 0 {
			units[asset] = decimals
		}
	}
	return units, nil
}

// sumRows sums up rows by asset.
func sumRows(rows []settlement.Allocation) (totals []settlement.Total) {
	sums := map[settlement.Asset]settlement.Amount{}
	for _, a := range rows {
		sums[a.Asset] = sums[a.Asset].Add(a.Amount)
	}
	for _, asset := range slices.Sorted(maps.Keys(sums)) {
		totals = append(totals, settlement.Total{Asset: asset, Amount: sums[asset]})
	}
	return totals
}

// sameTotals reports whether the rows sum to a balance.
func sameTotals(rows []settlement.Allocation, balance []settlement.Total) bool {
	left := map[settlement.Asset]settlement.Amount{}
	for _, t := range balance {
		left[t.Asset] = t.Amount
	}
	for _, t := range sumRows(rows) {
		if !left[t.Asset].Equal(t.Amount) {
			return false
		}
		delete(left, t.Asset)
	}
	for _, amount := range left {
		if !amount.IsZero() {
			return false
		}
	}
	return true
}

// Add counts a comparison.
func (t *Totals) Add(c Comparison) {
	t.Closed++
	switch c.Kind {
	case KindNotComparable:
		t.NotComparable++
	case KindDifference:
		t.Different++
		if c.Code != "" {
			t.WouldFail++
		}
	}
	for _, d := range c.Differences {
		at := slices.IndexFunc(t.Assets, func(a AssetTotals) bool { return a.Asset == d.Asset })
		if at < 0 {
			at = len(t.Assets)
			t.Assets = append(t.Assets, AssetTotals{Asset: d.Asset})
		}
		if more, err := d.Would.Sub(d.Paid); err == nil {
			t.Assets[at].More = t.Assets[at].More.Add(more)
		} else if less, err := d.Paid.Sub(d.Would); err == nil {
			t.Assets[at].Less = t.Assets[at].Less.Add(less)
		}
	}
}

// Text is the comparison for people.
func (c Comparison) Text() string {
	text := fmt.Sprintf("entry %d, session %s, %s: ", c.Sequence, c.Session, c.Scenario)
	switch {
	case c.Kind == KindNotComparable:
		return text + "not comparable: " + c.Message
	case c.Code != "":
		text += fmt.Sprintf("would fail with %s: %s", c.Code, c.Message)
	default:
		text += "would pay otherwise"
	}
	for _, d := range c.Differences {
		text += fmt.Sprintf("\n    %s  %s: paid %s, would receive %s (%s)", d.Participant, d.Asset, d.Paid, d.Would, plus(d.Difference))
	}
	return text
}

func plus(difference string) string {
	if strings.HasPrefix(difference, "-") {
		return difference
	}
	return "+" + difference
}

// Text is the summary for people.
func (t Totals) Text() string {
	text := fmt.Sprintf("%d closed sessions: %d would have paid otherwise, %d of them nothing because the outcome would fail; %d not comparable.", t.Closed, t.Different, t.WouldFail, t.NotComparable)
	for _, a := range t.Assets {
		text += fmt.Sprintf("\n%s: participants would have received %s more and %s less.", a.Asset, a.More, a.Less)
	}
	return text
}
