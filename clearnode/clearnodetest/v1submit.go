package clearnodetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// v1Submission is a submit_app_state.
type v1Submission struct {
	Update v1Update `json:"app_state_update"`
	Sigs   []string `json:"quorum_sigs"`
}

type v1Update struct {
	Session     string         `json:"app_session_id"`
	Intent      Intent         `json:"intent"`
	Version     string         `json:"version"`
	Allocations []v1Allocation `json:"allocations"`
	Data        string         `json:"session_data"`
}

type v1Allocation struct {
	Participant string `json:"participant"`
	Asset       string `json:"asset"`
	Amount      string `json:"amount"`
}

// v1State is a state that a session went through.
type v1State struct {
	version uint64
	intent  string
	signed  []string     // the wallets that signed it
	free    bool         // made by the test, not asked for by anybody: nobody needs to sign
	rows    []Allocation // the split after it, without zeros, in EIP-55
	paid    []Allocation // what it paid out
}

// v1Draft is a state update whose checks have passed, before its commit. Nothing holds the session meanwhile: another update
// of the same version may pass its checks too, and the first to commit wins.
type v1Draft struct {
	session *session
	base    uint64 // the version that the checks saw
	at      time.Time
	update  StateUpdate
	signed  []string
	moves   []v1Move
}

// v1Move changes a participant's part of the session; what it pays goes to their own account.
type v1Move struct {
	wallet, asset string // the wallet in EIP-55
	change        decimal.Decimal
	paid          bool
}

func v1SubmitState(n *Node, c *conn, r *request) (any, error) {
	var p v1Submission
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	u, err := p.Update.read()
	if err != nil {
		return nil, err
	}
	d, err := n.admitV1(u, p.Sigs)
	if err != nil {
		return nil, err
	}
	if !n.stallRead(c, r) {
		return nil, errStopped
	}
	if err := n.draftV1(&d); err != nil {
		return nil, err
	}
	if !n.work(c, r) {
		return nil, errStopped
	}
	return struct{}{}, n.commitV1(c.life, r, d)
}

// read checks what needs no session.
func (w v1Update) read() (StateUpdate, error) {
	if len(w.Data) > v1DataBytes {
		return StateUpdate{}, refusal(fmt.Sprintf("session_data exceeds maximum length of %d", v1DataBytes))
	}
	u := StateUpdate{Session: strings.ToLower(w.Session), Intent: w.Intent, Data: w.Data}
	for _, a := range w.Allocations {
		amount, err := amountV1(a.Amount)
		if err != nil {
			return StateUpdate{}, err
		}
		u.Allocations = append(u.Allocations, Allocation{strings.ToLower(a.Participant), a.Asset, amount})
	}
	var err error
	if u.Version, err = strconv.ParseUint(w.Version, 10, 64); err != nil {
		return StateUpdate{}, refusal("failed to parse app state update")
	}
	switch u.Intent {
	case IntentOperate, IntentWithdraw, IntentClose:
		return u, nil
	case IntentDeposit:
		return u, refusal("deposit intent must use submit_deposit_state endpoint")
	}
	return u, refusal("invalid intent: " + u.Intent.String())
}

// amountV1 reads an amount. One that would take a page to write out is refused, where the real node writes it out.
func amountV1(text string) (decimal.Decimal, error) {
	d, err := decimal.NewFromString(text)
	if err != nil || d.Exponent() > 1000 || d.Exponent() < -1000 {
		return d, refusal("failed to parse app state update")
	}
	return d, nil
}

// stallRead is the time between two reads of one request. Nothing holds the session meanwhile either.
func (n *Node) stallRead(c *conn, r *request) bool {
	f := n.strike(r, func(k FaultKind) bool { return k == StallRead })
	return f.Kind != StallRead || c.life.pause(f.Delay, f.Release)
}

// admitV1 reads the session, and checks that the update is its next one and signed.
func (n *Node) admitV1(u StateUpdate, sigs []string) (v1Draft, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return v1Draft{}, refusal("failed to process app state update")
	}
	if unstorable(u.Session) {
		return v1Draft{}, refusal("app session not found: failed to get app session: " + zeroByte)
	}
	s := n.sessions.byID[u.Session]
	if s == nil {
		return v1Draft{}, refusal("app session not found")
	}
	signed, err := n.signersV1(s, u, sigs)
	return v1Draft{session: s, base: s.version, update: u, signed: signed}, err
}

// draftV1 reads what the session holds, and checks the update's rows against it. What is wrong with them may be that
// another update was faster.
func (n *Node) draftV1(d *v1Draft) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return refusal("failed to process app state update")
	}
	var err error
	s, rows, held := d.session, d.update.Allocations, n.heldV1(d.session)
	switch d.update.Intent {
	case IntentOperate:
		d.moves, err = n.operateV1(s, rows, held)
	case IntentWithdraw:
		d.moves, err = n.withdrawV1(s, rows, held)
	case IntentClose:
		d.moves, err = s.closeV1(rows, held)
	}
	if err != nil {
		return err
	}
	d.at = n.cfg.Now()
	return n.releasable(d.moves)
}

// signersV1 checks what every update needs: an open session, its next version, and the quorum, which it returns.
func (n *Node) signersV1(s *session, u StateUpdate, sigs []string) ([]string, error) {
	switch {
	case s.status == "closed":
		return nil, refusal("app session is already closed")
	case len(sigs) > len(s.def.Participants):
		return nil, refusal(fmt.Sprintf("quorum_sigs count (%d) exceeds participants count (%d)", len(sigs), len(s.def.Participants)))
	case u.Version != s.version+1:
		return nil, refusal(fmt.Sprintf("invalid app session version: expected %d, got %d", s.version+1, u.Version))
	case len(sigs) == 0:
		return nil, refusal("no signatures provided")
	}
	return n.quorumV1(s, u.hash(), sigs)
}

// commitV1 makes the update true, unless another was faster.
func (n *Node) commitV1(l *life, r *request, d v1Draft) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := d.session
	switch {
	case l.ctx.Err() != nil:
		return errStopped
	case n.down:
		return refusal("failed to process app state update")
	case unstorable(d.update.Data):
		return refusal("failed to update app session: failed to update app session: " + zeroByte)
	case s.version != d.base:
		return refusal("failed to update app session: concurrent modification detected for session " + s.id)
	}
	paid, err := n.applyV1(d)
	if err != nil {
		return err
	}
	s.version, s.updated = d.base+1, n.cfg.Now()
	if d.update.Data != "" {
		s.data = d.update.Data
	}
	if d.update.Intent == IntentClose {
		s.status = "closed"
		s.closes = append(s.closes, d.signed)
	}
	s.payouts = append(s.payouts, paid...)
	s.states = append(s.states, v1State{
		version: s.version, intent: d.update.Intent.String(), signed: d.signed, rows: n.parts(s), paid: paid,
	})
	if r.close != nil {
		r.close.Committed = true
	}
	return nil
}

// applyV1 writes the moves into the book and returns what they paid.
func (n *Node) applyV1(d v1Draft) ([]Allocation, error) {
	s := d.session
	draft := n.book.draft()
	var paid []Allocation
	for _, m := range d.moves {
		if err := draft.record(s.id, m.wallet, m.asset, m.change, ""); err != nil {
			return nil, err
		}
		if !m.paid {
			continue
		}
		out := m.change.Neg()
		if err := draft.record(m.wallet, m.wallet, m.asset, out, ""); err != nil {
			return nil, err
		}
		paid = append(paid, Allocation{m.wallet, m.asset, out})
	}
	draft.commit()
	for _, a := range paid {
		n.channels.release(s.id, a, d.at)
	}
	return paid, nil
}
