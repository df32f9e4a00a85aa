package nitronode

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// SubmitParams are the params of submit_app_state.
type SubmitParams struct {
	Update update   `json:"app_state_update"`
	Sigs   []string `json:"quorum_sigs"`
}

// ParamsOf are the params that submit an update signed by wallets.
func ParamsOf(u StateUpdate, keys ...*ecdsa.PrivateKey) SubmitParams {
	p := SubmitParams{update{Session: u.Session, Intent: u.Intent, Version: formatNumber(u.Version), Data: u.Data}, []string{}}
	for _, a := range u.Allocations {
		p.Update.Allocations = append(p.Update.Allocations, allocation{a.Participant, a.Asset, a.Amount.String()})
	}
	for _, k := range keys {
		p.Sigs = append(p.Sigs, u.Sign(k))
	}
	return p
}

type update struct {
	Session     string       `json:"app_session_id"`
	Intent      Intent       `json:"intent"`
	Version     string       `json:"version"`
	Allocations []allocation `json:"allocations"`
	Data        string       `json:"session_data"`
}

type allocation struct {
	Participant string `json:"participant"`
	Asset       string `json:"asset"`
	Amount      string `json:"amount"`
}

// state is one state of a session.
type state struct {
	Version  uint64
	Intent   string
	Signers  []string            // wallets
	Unsigned bool                // made by the test without a request, so that no signature is needed
	Rows     []server.Allocation // the allocation after it, without zeros, in EIP-55
	Paid     []server.Allocation // what it paid out
}

// draft is a state update whose checks have passed, before its commit. Nothing locks the session meanwhile: another update of
// the same version may pass its checks too, and the first to commit wins.
type draft struct {
	session *server.Session
	base    uint64    // the version that the checks saw
	at      time.Time // when the rows were checked
	update  StateUpdate
	signers []string
	moves   []move
}

// move changes a participant's part of the session. What it pays goes to the participant's own account.
type move struct {
	wallet, asset string // the wallet with its EIP-55 checksum
	change        decimal.Decimal
	paid          bool
}

func (n *Node) submitAppState(c *server.Conn, r *request) (any, error) {
	return struct{}{}, n.submit(c.Life, r)
}

func (n *Node) submit(l *server.Lifetime, r *request) error {
	var p SubmitParams
	if err := r.parse(&p); err != nil {
		return err
	}
	u, err := p.Update.parse()
	if err != nil {
		return err
	}
	d, err := n.checkUpdate(u, p.Sigs)
	if err != nil {
		return err
	}
	if !n.PauseBetweenReads(l, &r.Request) {
		return server.ErrStopped
	}
	if err := n.draftMoves(d); err != nil {
		return err
	}
	if !n.PauseBeforeCommit(l, &r.Request) {
		return server.ErrStopped
	}
	return n.commit(l, r, d)
}

// parse checks what needs no session.
func (w update) parse() (StateUpdate, error) {
	if len(w.Data) > maxDataBytes {
		return StateUpdate{}, fmt.Errorf("session_data exceeds maximum length of %d", maxDataBytes)
	}
	u := StateUpdate{Session: strings.ToLower(w.Session), Intent: w.Intent, Data: w.Data}
	for _, a := range w.Allocations {
		// The real node writes out amounts with large exponents; this one refuses them.
		amount, err := decimal.NewFromString(a.Amount)
		if err != nil || amount.Exponent() > 1000 || amount.Exponent() < -1000 {
			return StateUpdate{}, errors.New("failed to parse app state update")
		}
		u.Allocations = append(u.Allocations, server.Allocation{Participant: strings.ToLower(a.Participant), Asset: a.Asset, Amount: amount})
	}
	var err error
	if u.Version, err = strconv.ParseUint(w.Version, 10, 64); err != nil {
		return StateUpdate{}, errors.New("failed to parse app state update")
	}
	switch u.Intent {
	case IntentOperate, IntentWithdraw, IntentClose:
		return u, nil
	case IntentDeposit:
		return u, errors.New("deposit intent must use submit_deposit_state endpoint")
	}
	return u, errors.New("invalid intent: " + u.Intent.String())
}

// checkUpdate reads the session, and checks that it is open, that the update is its next version, and that the quorum signed.
func (n *Node) checkUpdate(u StateUpdate, sigs []string) (*draft, error) {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, errors.New("failed to process app state update")
	}
	if hasZeroByte(u.Session) {
		return nil, errors.New("app session not found: failed to get app session: " + zeroByteError)
	}
	s := n.Sessions.ByID[u.Session]
	switch {
	case s == nil:
		return nil, errors.New("app session not found")
	case s.Status == "closed":
		return nil, errors.New("app session is already closed")
	case len(sigs) > len(s.Definition.Participants):
		return nil, fmt.Errorf("quorum_sigs count (%d) exceeds participants count (%d)", len(sigs), len(s.Definition.Participants))
	case u.Version != s.Version+1:
		return nil, fmt.Errorf("invalid app session version: expected %d, got %d", s.Version+1, u.Version)
	case len(sigs) == 0:
		return nil, errors.New("no signatures provided")
	}
	signers, err := n.checkQuorum(s, u.hash(), sigs)
	return &draft{session: s, base: s.Version, update: u, signers: signers}, err
}

// draftMoves reads the session's allocations and checks the update's rows. If another update was faster they may look wrong.
func (n *Node) draftMoves(d *draft) error {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return errors.New("failed to process app state update")
	}
	var err error
	s, rows, current := d.session, d.update.Allocations, n.currentSplit(d.session)
	switch d.update.Intent {
	case IntentOperate:
		d.moves, err = n.checkOperate(s, rows, current)
	case IntentWithdraw:
		d.moves, err = n.checkWithdraw(s, rows, current)
	case IntentClose:
		d.moves, err = checkClose(s, rows, current)
	}
	if err != nil {
		return err
	}
	d.at = n.Config.Now()
	return n.checkEscrows(d.moves)
}

// commit makes the update effective, unless another was faster.
func (n *Node) commit(l *server.Lifetime, r *request, d *draft) error {
	n.Lock()
	defer n.Unlock()
	s := d.session
	switch {
	case l.Ended():
		return server.ErrStopped
	case n.Outage:
		return errors.New("failed to process app state update")
	case hasZeroByte(d.update.Data):
		return errors.New("failed to update app session: failed to update app session: " + zeroByteError)
	case s.Version != d.base:
		return errors.New("failed to update app session: concurrent modification detected for session " + s.ID)
	}
	paid, err := n.applyMoves(d)
	if err != nil {
		return fmt.Errorf("failed to record a ledger entry : %w", err)
	}
	s.Version, s.Updated = d.base+1, n.Config.Now()
	if d.update.Intent == IntentClose {
		s.RecordClose(s.Version, s.Updated, d.signers)
	}
	if d.update.Data != "" {
		s.Data = d.update.Data
	}
	s.Payouts = append(s.Payouts, paid...)
	n.states[s] = append(n.states[s], state{
		Version: s.Version, Intent: d.update.Intent.String(), Signers: d.signers, Rows: n.CurrentAllocations(s), Paid: paid,
	})
	r.Close.Committed = true
	return nil
}

// applyMoves writes the moves to the ledger and returns what they paid.
func (n *Node) applyMoves(d *draft) ([]server.Allocation, error) {
	id, ledger := d.session.ID, n.Ledger.Begin()
	var paid []server.Allocation
	for _, m := range d.moves {
		if err := ledger.Record(id, m.wallet, m.asset, m.change); err != nil {
			return nil, err
		}
		if !m.paid {
			continue
		}
		amount := m.change.Neg()
		if err := ledger.Record(m.wallet, m.wallet, m.asset, amount); err != nil {
			return nil, err
		}
		paid = append(paid, server.Allocation{Participant: m.wallet, Asset: m.asset, Amount: amount})
	}
	ledger.Commit()
	for _, a := range paid {
		n.channels.record(release, id, a.Participant, a.Asset, a.Amount, d.at)
	}
	return paid, nil
}

// Submit submits a state update without a connection.
func (n *Node) Submit(l *server.Lifetime, u StateUpdate, keys ...*ecdsa.PrivateKey) error {
	r, err := decode(server.Marshal([]any{1, 0, submitMethod, ParamsOf(u, keys...), server.Millis(n.Config.Now())}))
	if err != nil {
		return err
	}
	submission := n.recordRequest(r)
	_, err = n.Run(&r.Request, server.Fault{Kind: server.NoFault}, func() (any, error) { return nil, n.submit(l, r) })
	n.RecordAnswer(&r.Request, submission.outcome(err))
	return err
}
