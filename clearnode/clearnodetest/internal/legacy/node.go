// Package legacy simulates the ClearNode of May 2025.
package legacy

import (
	"errors"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// Node is the node's state.
type Node struct{ *server.State }

// New makes a node.
func New(state *server.State) *Node { return &Node{state} }

// Transport reads ten requests ahead. Empty frames are answered.
func (n *Node) Transport() server.Transport {
	return server.Transport{QueueLength: server.QueueLength, EmptyFrames: true}
}

// Greet sends nothing: the node is silent before the login.
func (n *Node) Greet(*server.Conn) {}

// CheckSession finds nothing: the common checks cover all of this generation's rules.
func (n *Node) CheckSession(*server.Session) []error { return nil }

// Payout finds nothing: the node reports no transfers.
func (n *Node) Payout(_, _, _ string) *decimal.Decimal { return nil }

// method is one of the node's calls after a login.
type method struct {
	failed string // what an error's text begins with
	answer string // the answer's method; empty: the request's own
	run    func(*Node, *server.Conn, *message) (any, error)
	moves  bool // on success the caller's balances are sent before the answer
}

var methods = map[string]method{
	"ping":                {failed: "Failed to process ping: ", answer: "pong", run: (*Node).ping},
	"get_config":          {failed: "Failed to get config: ", run: (*Node).getConfig},
	"get_assets":          {failed: "Failed to get assets: ", run: (*Node).getAssets},
	"get_app_definition":  {failed: "Failed to get app definition: ", run: (*Node).getAppDefinition},
	"get_app_sessions":    {failed: "Failed to get app sessions: ", run: (*Node).getAppSessions},
	"get_ledger_balances": {failed: "Failed to get ledger balances: ", run: (*Node).getLedgerBalances},
	"get_ledger_entries":  {failed: "Failed to get ledger entries: ", run: (*Node).getLedgerEntries},
	"create_app_session":  {failed: "Failed to create application: ", run: (*Node).createAppSession, moves: true},
	"close_app_session":   {failed: "Failed to close application: ", run: (*Node).closeAppSession, moves: true},
}

// answer is what one frame is answered with. The zero value is no answer.
type answer struct {
	method   string // "error" for errors
	result   []any
	text     string // the error's
	withID   bool   // it has the request's id; otherwise the server's clock in ms
	signed   bool   // the signature signs the value of res; otherwise "null"
	hangUp   bool   // the connection ends after it
	loggedIn string // the address that is logged in from now on
	ts       uint64
}

func errorAnswer(text string) answer { return answer{method: "error", text: text} }

// errorAnswer answers a call: it has the call's id.
func (m *message) errorAnswer(text string) answer {
	return answer{method: "error", text: text, withID: true}
}

// Handle serves one frame.
func (n *Node) Handle(c *server.Conn, frame []byte) bool {
	m, err := decode(frame)
	r := &m.Request
	if err == nil && !n.Arrive(c, r) {
		return false
	}
	n.RecordRequest(r, r.Method == "close_app_session")
	fault := server.Fault{Kind: server.NoFault}
	var a answer
	switch user := n.user(c); {
	case user == "" && err != nil:
		a = errorAnswer(err.Error())
		a.hangUp = true
	case user == "":
		a, fault = n.beforeLogin(m)
	default:
		a, fault = n.afterLogin(c, m, user, err)
	}
	if c.Life.Ended() {
		n.RecordAnswer(r, "")
		return false
	}
	outcome := a.text
	if a.method != "error" {
		outcome = "closed"
	}
	n.RecordAnswer(r, outcome)
	if a.method != "" && !c.Answer(n.encode(r.ID, a, fault), fault) {
		return false
	}
	if a.loggedIn != "" {
		n.greetLogin(c, a.loggedIn)
	}
	if a.hangUp {
		c.HangUp()
	}
	return !a.hangUp
}

func (n *Node) user(c *server.Conn) string {
	n.Lock()
	defer n.Unlock()
	return c.Wallet
}

// beforeLogin answers two calls. A res frame crashes the real node's goroutine, and the connection ends.
func (n *Node) beforeLogin(m *message) (answer, server.Fault) {
	run := map[string]func(*Node, *message) (answer, error){
		"auth_request": (*Node).authRequest, "auth_verify": (*Node).authVerify,
	}[m.Method]
	switch {
	case m.isAnswer:
		return answer{hangUp: true}, server.Fault{Kind: server.NoFault}
	case run == nil:
		return errorAnswer("Authentication required. Please send auth_request first."), server.Fault{Kind: server.NoFault}
	}
	fault := n.StrikeAnswer(&m.Request, server.ExpireAuth)
	if fault.Kind == server.Error {
		return errorAnswer(fault.Text), fault
	}
	a, err := run(n, m)
	switch {
	case err != nil:
		a = errorAnswer(err.Error())
	case fault.Kind == server.ErrorApplied:
		a = answer{method: "error", text: fault.Text, loggedIn: a.loggedIn}
	}
	return a, fault
}

// afterLogin answers a frame of a logged-in address. Err says why the frame can't be read, if it can't.
func (n *Node) afterLogin(c *server.Conn, m *message, user string, err error) (answer, server.Fault) {
	none := server.Fault{Kind: server.NoFault}
	n.Lock()
	active := n.Logins.Active(user, n.Config.Now())
	n.Unlock()
	switch {
	case !active:
		a := errorAnswer("Session expired. Please re-authenticate.")
		a.hangUp = true
		return a, none
	case err != nil:
		a := errorAnswer(err.Error())
		a.hangUp = m.readable
		return a, none
	case m.sid != "":
		return n.forward(m, user), none
	case m.isAnswer:
		return answer{}, none
	}
	if err := n.checkAge(m.Timestamp); err != nil {
		return m.errorAnswer(err.Error()), none
	}
	call, ok := methods[m.Method]
	if !ok {
		return m.errorAnswer("Unsupported method"), none
	}
	fault := n.StrikeAnswer(&m.Request)
	if fault.Kind == server.ExpireAuth {
		n.Lock()
		delete(n.Logins.LastUse, user) // on all its connections
		n.Unlock()
		return n.afterLogin(c, m, user, nil)
	}
	return n.run(c, m, call, fault), fault
}

// run carries out one call and sends the balances after it. The fault may replace either.
func (n *Node) run(c *server.Conn, m *message, call method, fault server.Fault) answer {
	if fault.Kind == server.Error {
		return m.errorAnswer(fault.Text)
	}
	end := n.BeginWork(&m.Request)
	result, err := call.run(n, c, m)
	end()
	switch {
	case err != nil && fault.Kind == server.ErrorApplied:
		return m.errorAnswer(fault.Text)
	case err != nil:
		return m.errorAnswer(call.failed + err.Error())
	}
	a := answer{method: m.Method, result: []any{}, withID: true, signed: true, ts: server.Millis(n.Config.Now())}
	if call.answer != "" {
		a.method = call.answer
	}
	if result != nil {
		a.result = []any{result}
	}
	if m.Method == "close_app_session" {
		if n.Config.Legacy.AppSessionClosed {
			a.method = "app_session_closed"
		}
		if n.Config.CloseAnswer != nil {
			a.method, a.result[0] = n.Config.CloseAnswer(result.(sessionRow).ID)
		}
	}
	if call.moves {
		n.notifyBalances(n.user(c))
	}
	if fault.Kind == server.ErrorApplied {
		return m.errorAnswer(fault.Text)
	}
	return a
}

// greetLogin makes the connection the newest of its address, which receives the notifications, first channels and balances.
func (n *Node) greetLogin(c *server.Conn, login string) {
	n.Lock()
	c.Wallet = login
	c.Life.Newest[login] = c
	n.Ledger.ApplyFaucet(login)
	n.Unlock()
	n.notify(login, "channels", []any{})
	n.notifyBalances(login)
}

// notify sends a notification to the newest connection of a login, unless a connection of that login ended since. A
// notification can't be told from an answer: its id is the server's clock in ms.
func (n *Node) notify(login, method string, result any) {
	n.Lock()
	var newest *server.Conn
	if n.Lifetime != nil {
		newest = n.Lifetime.Newest[login]
	}
	n.Unlock()
	if newest != nil {
		newest.Send(n.encode(0, answer{method: method, result: []any{result}}, server.Fault{Kind: server.NoFault}))
	}
}

// notifyBalances sends a login its balances, unless the database is away. They depend on the login's spelling.
func (n *Node) notifyBalances(login string) {
	n.Lock()
	outage := n.Outage
	balances := n.Ledger.BalancesOf(login, login)
	n.Unlock()
	if !outage {
		n.notify(login, "bu", balances)
	}
}

// The real node forwards its database's errors. These are the driver's texts for a Postgres that can't be reached, as observed,
// and for one that goes away during a transaction.
var (
	errDatabaseAway = errors.New("failed to connect to `user=postgres database=clearnode`: " +
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused")
	errDatabaseLost = errors.New("FATAL: terminating connection due to administrator command (SQLSTATE 57P01)")
	errNoRecord     = errors.New("record not found")
)
