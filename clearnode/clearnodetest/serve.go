package clearnodetest

import (
	"sort"
	"time"
)

// method is one of the node's calls.
type method struct {
	private  bool   // only after a login, and only with a fresh timestamp
	balances bool   // the caller's balances are sent before the answer, whether it succeeds or not
	answer   string // the answer's method; empty: the request's own
	run      func(*Node, *conn, *request) (any, error)
}

var methods = map[string]method{
	"ping":                    {answer: "pong", run: ping},
	"get_config":              {run: getConfig},
	"get_assets":              {run: getAssets},
	"get_app_definition":      {run: getAppDefinition},
	"get_app_sessions":        {run: getAppSessions},
	"get_ledger_entries":      {run: getLedgerEntries},
	"get_ledger_transactions": {run: getLedgerTransactions},
	"get_ledger_balances":     {private: true, run: getLedgerBalances},
	"auth_request":            {answer: "auth_challenge", run: authRequest},
	"auth_verify":             {run: authVerify},
	"create_app_session":      {private: true, balances: true, run: createAppSession},
	"submit_app_state":        {private: true, balances: true, run: submitAppState},
	"close_app_session":       {private: true, balances: true, run: closeAppSession},
}

// handle serves one frame from a connection's queue. It reports false when the connection, and what is queued behind the
// frame, is lost: the node stopped, or a fault cut the line before the request arrived.
func (n *Node) handle(c *conn, raw []byte) bool {
	r, err := decode(raw)
	if err == nil && !n.arrive(c, r) {
		return false
	}
	n.note(r)
	m, known := methods[r.method]
	if err == nil && !known {
		err = refusal("unknown method: " + r.method)
	}
	f := Fault{Kind: noFault}
	var params any
	if err == nil {
		f = n.strike(r, func(k FaultKind) bool { return !k.early() && (k != ExpireAuth || m.private) })
		params, err = n.run(c, r, m, f)
	}
	if c.life.ctx.Err() != nil {
		n.settled(r, "")
		return false
	}
	n.settled(r, outcome(err))
	if err != nil {
		return n.reply(c, r, "error", errorParams{err.Error()}, f)
	}
	if m.answer == "" {
		m.answer = r.method
	}
	if r.method == "close_app_session" && n.cfg.CloseAnswer != nil {
		m.answer, params = n.cfg.CloseAnswer(r.session())
	}
	return n.reply(c, r, m.answer, params, f)
}

// run carries out one call and the balance update after it. The fault may stand in for either.
func (n *Node) run(c *conn, r *request, m method, f Fault) (params any, err error) {
	if f.Kind == ExpireAuth {
		n.forget(c)
	}
	if m.private {
		if err := n.admit(c, r); err != nil {
			return nil, err
		}
	}
	if f.Kind == Error {
		err = refusal(f.Text)
	} else {
		ended := n.atWork(r)
		params, err = m.run(n, c, r)
		ended()
	}
	if f.Kind == ErrorApplied {
		params, err = nil, refusal(f.Text)
	}
	if m.balances {
		n.tellBalances(n.user(c))
	}
	return params, err
}

// reply sends the answer, as the fault lets it through.
func (n *Node) reply(c *conn, r *request, name string, params any, f Fault) bool {
	now := millis(n.cfg.Now())
	id := r.id
	if id == 0 {
		id = now
	}
	key := n.cfg.BrokerKey
	if f.Kind == WrongSignature {
		key = n.wrongKey
	}
	if !c.deliver(seal(key, id, name, params, now), f) {
		return false
	}
	n.greet(c)
	return true
}

// deliver sends an answer, as the fault lets it through. It reports false if the node stopped meanwhile.
func (c *conn) deliver(frame []byte, f Fault) bool {
	switch f.Kind {
	case LoseAnswer:
	case CutAfter:
		c.cut()
	case Garbage:
		c.send([]byte(`{"res":[` + "garbage"))
	case DelayAnswer:
		if !c.life.pause(f.Delay, f.Release) {
			return false
		}
		c.send(frame)
	default:
		c.send(frame)
	}
	return true
}

// notice is a frame that nobody asked for: id 0.
func (n *Node) notice(name string, params any) []byte {
	return seal(n.cfg.BrokerKey, 0, name, params, millis(n.cfg.Now()))
}

// notify sends a notice to every connection that is logged in as the wallet.
func (n *Node) notify(wallet, name string, params any) {
	n.mu.Lock()
	var to []*conn
	if n.life != nil {
		for c := range n.life.conns {
			if wallet != "" && c.wallet == wallet {
				to = append(to, c)
			}
		}
	}
	n.mu.Unlock()
	if len(to) == 0 {
		return
	}
	frame := n.notice(name, params)
	for _, c := range to {
		c.send(frame)
	}
}

type balanceUpdates struct {
	BalanceUpdates []balance `json:"balance_updates"`
}

// tellBalances sends a wallet its balances, unless the database is away.
func (n *Node) tellBalances(wallet string) {
	n.mu.Lock()
	down := n.down
	balances := n.book.balances(accountID(wallet), address(wallet))
	n.mu.Unlock()
	if !down {
		n.notify(wallet, "bu", balanceUpdates{balances})
	}
}

// greet follows a login by another wallet than before with that wallet's channels and balances, after the answer.
func (n *Node) greet(c *conn) {
	n.mu.Lock()
	if c.policy == nil || c.policy.Wallet == c.wallet {
		n.mu.Unlock()
		return
	}
	wallet := c.policy.Wallet
	c.wallet = wallet
	down := n.down
	n.book.see(wallet)
	balances := n.book.balances(accountID(wallet), address(wallet))
	n.mu.Unlock()
	c.send(n.notice("channels", struct {
		Channels []any `json:"channels"`
	}{[]any{}}))
	if !down {
		c.send(n.notice("bu", balanceUpdates{balances}))
	}
}

func (n *Node) user(c *conn) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return c.wallet
}

func millis(t time.Time) uint64 { return uint64(t.UnixMilli()) }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
