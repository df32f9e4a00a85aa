// Package legacy simulates the ClearNode of May 2025.
package legacy

import (
	"cmp"
	"errors"

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

// method is one of the node's calls.
type method struct {
	failed string // what an error's text begins with
	answer string // the answer's method; empty: the request's own
	run    func(*Node, *server.Conn, *message) (any, error)
	moves  bool // on success the caller's balances are sent before the answer
}

var loginMethods = map[string]method{
	"auth_request": {answer: "auth_challenge", run: (*Node).authRequest},
	"auth_verify":  {run: (*Node).authVerify},
}

// methods are the calls after a login.
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
	method string // "error" for errors
	result []any
	text   string // the error's
	withID bool   // it has the request's id; otherwise the server's clock in ms
	signed bool   // the signature signs the value of res; otherwise "null"
	hangUp bool   // the connection ends after it
	ts     uint64
	fault  server.Fault
}

func errorAnswer(text string, withID, hangUp bool) answer {
	return answer{method: "error", text: text, withID: withID, hangUp: hangUp}
}

// Methods are the names of the calls.
func (n *Node) Methods() []string {
	return append(server.SortedKeys(loginMethods), server.SortedKeys(methods)...)
}

// Handle serves one frame.
func (n *Node) Handle(c *server.Conn, frame []byte) bool {
	m, err := decode(frame)
	if err == nil && !n.Arrive(c, &m.Request) {
		return false
	}
	n.RecordRequest(&m.Request, m.Method == "close_app_session")
	a := n.answer(c, m, err)
	outcome := a.text
	if a.method != "error" {
		outcome = "closed"
	}
	if !n.Finish(c, &m.Request, outcome, a.fault, func() []byte { return n.encode(m.ID, a) }) {
		return false
	}
	n.greetLogin(c)
	if a.hangUp {
		c.HangUp()
	}
	return !a.hangUp
}

// answer answers a frame, unless its sender isn't logged in any more. Err says why it can't be read, if it can't. Before a login a res
// frame crashes the real node's goroutine, and the connection ends.
func (n *Node) answer(c *server.Conn, m *message, err error) answer {
	const expired = "Session expired. Please re-authenticate."
	n.Lock()
	user := c.Wallet
	loggedIn := user != ""
	active := !loggedIn || n.Logins.Active(user, n.Config.Now())
	n.Unlock()
	switch {
	case !active:
		return errorAnswer(expired, false, true)
	case err != nil:
		return errorAnswer(err.Error(), false, m.readable || !loggedIn)
	case loggedIn && m.sid != "":
		return n.forward(m, user)
	case m.isAnswer:
		return answer{hangUp: !loggedIn}
	}
	calls, except := loginMethods, []server.FaultKind{server.ExpireAuth}
	if loggedIn {
		if err := n.checkAge(m.Timestamp); err != nil {
			return errorAnswer(err.Error(), true, false)
		}
		calls, except = methods, nil
	}
	call, ok := calls[m.Method]
	switch {
	case !ok && loggedIn:
		return errorAnswer("Unsupported method", true, false)
	case !ok:
		return errorAnswer("Authentication required. Please send auth_request first.", false, false)
	}
	fault := n.StrikeAnswer(&m.Request, except...)
	if fault.Kind == server.ExpireAuth {
		n.Lock()
		delete(n.Logins.LastUse, user) // on all its connections
		n.Unlock()
		return errorAnswer(expired, false, true)
	}
	a := n.run(c, m, call, fault, user)
	a.fault = fault
	return a
}

// run executes one call and sends the balances after it. The fault may replace either.
func (n *Node) run(c *server.Conn, m *message, call method, fault server.Fault, user string) answer {
	a := answer{method: cmp.Or(call.answer, m.Method), result: []any{}, withID: true}
	_, err := n.Run(&m.Request, fault, func() (any, error) {
		result, err := call.run(n, c, m)
		if err != nil {
			return nil, errors.New(call.failed + err.Error())
		}
		if result != nil {
			a.result = []any{result}
		}
		if user != "" {
			a.signed, a.ts = true, server.Millis(n.Config.Now())
		}
		if call.moves {
			n.notifyBalances(user)
		}
		return nil, nil
	})
	if err != nil {
		return errorAnswer(err.Error(), user != "", false)
	}
	if m.Method == "close_app_session" {
		if n.Config.Legacy.AppSessionClosed {
			a.method = "app_session_closed"
		}
		if n.Config.CloseAnswer != nil {
			a.method, a.result[0] = n.Config.CloseAnswer(m.Session())
		}
	}
	return a
}

// greetLogin makes a connection that has logged in the newest of its address, which receives the notifications, first channels and
// balances.
func (n *Node) greetLogin(c *server.Conn) {
	n.Lock()
	login, _ := c.Login.(string)
	if login == c.Wallet {
		n.Unlock()
		return
	}
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
		newest.Send(n.encode(0, answer{method: method, result: []any{result}}))
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
