// Package nitrorpc simulates ClearNode 0.5.2, which serves sessions of NitroRPC 0.2 and 0.4.
package nitrorpc

import (
	"cmp"
	"encoding/json"
	"errors"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// Node is the node's state and what only this generation keeps.
type Node struct {
	*server.State
	keys sessionKeys
	tags map[string]string // by wallet: the tag that its first login by signature assigned
}

// New makes a node.
func New(state *server.State) *Node {
	return &Node{State: state, keys: sessionKeys{}, tags: map[string]string{}}
}

// Transport reads ten requests ahead.
func (n *Node) Transport() server.Transport {
	return server.Transport{QueueLength: server.QueueLength}
}

// Greet sends the assets.
func (n *Node) Greet(c *server.Conn) {
	c.Send(n.notification("assets", list("assets", n.AssetRows(nil))))
}

// Payout returns the amount of the newest withdrawal of a session to a participant.
func (n *Node) Payout(session, participant, asset string) *decimal.Decimal {
	var amount *decimal.Decimal
	for _, t := range n.Ledger.TransfersOf[session] {
		if t.Kind == appWithdrawal && t.To == server.Checksum(participant) && t.Asset == asset {
			amount = &t.Amount
		}
	}
	return amount
}

// method is one of the node's calls.
type method struct {
	private  bool   // only after a login, and only with a fresh timestamp
	balances bool   // the caller's balances are sent before the answer, whether it succeeds or not
	answer   string // the answer's method; empty: the request's own
	run      call
}

type call = func(*Node, *server.Conn, *request) (any, error)

// query is a call that reads the parsed params while the node is locked.
func query[P any](run func(*Node, *server.Conn, P) (any, error)) call {
	return func(n *Node, c *server.Conn, r *request) (any, error) {
		var p P
		if err := r.parse(&p); err != nil {
			return nil, err
		}
		n.Lock()
		defer n.Unlock()
		return run(n, c, p)
	}
}

// change is a call that changes a session. The error for an unreadable signature names what the real node looks for.
func change[P any](wanted string, run func(*Node, *server.Conn, *request, P, []string) (any, error)) call {
	return func(n *Node, c *server.Conn, r *request) (any, error) {
		var p P
		if err := r.parse(&p); err != nil {
			return nil, err
		}
		signers, err := r.signers()
		if err != nil {
			return nil, errors.New("failed to get " + wanted + " from RPC message")
		}
		return run(n, c, r, p, signers)
	}
}

var methods = map[string]method{
	"ping":                    {answer: "pong", run: (*Node).ping},
	"get_config":              {run: (*Node).getConfig},
	"get_assets":              {run: query((*Node).getAssets)},
	"get_app_definition":      {run: query((*Node).getAppDefinition)},
	"get_app_sessions":        {run: query((*Node).getAppSessions)},
	"get_ledger_entries":      {run: query((*Node).getLedgerEntries)},
	"get_ledger_transactions": {run: query((*Node).getLedgerTransactions)},
	"get_ledger_balances":     {private: true, run: query((*Node).getLedgerBalances)},
	"auth_request":            {answer: "auth_challenge", run: (*Node).authRequest},
	"auth_verify":             {run: (*Node).authVerify},
	"create_app_session":      {private: true, balances: true, run: change("signers", (*Node).createAppSession)},
	"submit_app_state":        {private: true, balances: true, run: change("wallets", (*Node).submitAppState)},
	"close_app_session":       {private: true, balances: true, run: change("wallets", (*Node).closeAppSession)},
}

// Methods are the names of the calls.
func (n *Node) Methods() []string { return server.SortedKeys(methods) }

type ownState struct {
	Keys sessionKeys
	Tags map[string]string
}

// OwnState is the session keys and tags.
func (n *Node) OwnState() any { return ownState{n.keys, n.tags} }

// RestoreOwn replaces them.
func (n *Node) RestoreOwn(own json.RawMessage) error {
	s := ownState{sessionKeys{}, map[string]string{}}
	err := json.Unmarshal(own, &s)
	n.keys, n.tags = s.Keys, s.Tags
	return err
}

// Handle serves one frame.
func (n *Node) Handle(c *server.Conn, frame []byte) bool {
	r, err := decode(frame)
	if err == nil && !n.Arrive(c, &r.Request) {
		return false
	}
	n.RecordRequest(&r.Request, r.Method == "close_app_session")
	m, known := methods[r.Method]
	if err == nil && !known {
		err = errors.New("unknown method: " + r.Method)
	}
	fault := server.Fault{Kind: server.NoFault}
	var params any
	if err == nil {
		var except []server.FaultKind
		if !m.private {
			except = append(except, server.ExpireAuth)
		}
		fault = n.StrikeAnswer(&r.Request, except...)
		params, err = n.run(c, r, m, fault)
	}
	outcome, name := "closed", cmp.Or(m.answer, r.Method)
	switch {
	case err != nil:
		outcome, name, params = err.Error(), "error", server.ErrorParams{Error: err.Error()}
	case r.Method == "close_app_session" && n.Config.CloseAnswer != nil:
		name, params = n.Config.CloseAnswer(r.Session())
	}
	answered := n.Finish(c, &r.Request, outcome, fault, func() []byte {
		now := server.Millis(n.Config.Now())
		return encode(n.SigningKey(fault), cmp.Or(r.ID, now), name, params, now)
	})
	if answered {
		n.greetLogin(c)
	}
	return answered
}

// run executes one call and sends the balances after it. The fault may replace either.
func (n *Node) run(c *server.Conn, r *request, m method, fault server.Fault) (any, error) {
	if fault.Kind == server.ExpireAuth {
		n.Lock()
		c.Login, c.Wallet = nil, ""
		n.Unlock()
	}
	if m.private {
		if err := n.authorize(c, r); err != nil {
			return nil, err
		}
	}
	params, err := n.Run(&r.Request, fault, func() (any, error) { return m.run(n, c, r) })
	if m.balances {
		n.Lock()
		wallet := c.Wallet
		n.Unlock()
		n.notifyBalances(wallet)
	}
	return params, err
}

// notification is a frame that no request asked for: its id is 0.
func (n *Node) notification(name string, params any) []byte {
	return encode(n.Config.BrokerKey, 0, name, params, server.Millis(n.Config.Now()))
}

func (n *Node) notify(receivers []*server.Conn, name string, params any) {
	if len(receivers) == 0 {
		return
	}
	frame := n.notification(name, params)
	for _, c := range receivers {
		c.Send(frame)
	}
}

// notifyBalances sends a wallet its balances on all its connections.
func (n *Node) notifyBalances(wallet string) { n.sendBalances(wallet, n.ConnectionsOf(wallet)) }

// sendBalances sends a wallet's balances, unless the database is away.
func (n *Node) sendBalances(wallet string, receivers []*server.Conn) {
	n.Lock()
	outage := n.Outage
	balances := n.Ledger.BalancesOf(server.AccountID(wallet), server.Checksum(wallet))
	n.Unlock()
	if !outage {
		n.notify(receivers, "bu", list("balance_updates", balances))
	}
}

// notifyFunders sends their balances to everybody with an amount in the rows.
func (n *Node) notifyFunders(rows []server.Allocation) {
	funders := map[string]bool{}
	for _, a := range rows {
		if !a.Amount.IsZero() {
			funders[a.Participant] = true
		}
	}
	for _, wallet := range server.SortedKeys(funders) {
		n.notifyBalances(wallet)
	}
}

// greetLogin sends a wallet's channels and balances after the answer to its first login on the connection.
func (n *Node) greetLogin(c *server.Conn) {
	n.Lock()
	p, _ := c.Login.(*policy)
	if p == nil || p.Wallet == c.Wallet {
		n.Unlock()
		return
	}
	c.Wallet = p.Wallet
	n.Ledger.ApplyFaucet(p.Wallet)
	n.Unlock()
	c.Send(n.notification("channels", list("channels", []any{})))
	n.sendBalances(p.Wallet, []*server.Conn{c})
}
