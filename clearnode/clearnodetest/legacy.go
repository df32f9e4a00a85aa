package clearnodetest

// LegacyBuild is what other builds of the legacy node answer otherwise than the one recorded. The zero value is that one.
type LegacyBuild struct {
	AppSessionClosed bool // a close is answered under the method app_session_closed
	ErrFrames        bool // errors come as {"err":[id,code,"message"]}
}

// legacy is how the ClearNode of May 2025 serves: no greeting, and nothing at all before the login.
var legacy = dialect{
	queue: queued, greet: func(*Node, *conn) {}, read: func(c *conn) { c.take(0) }, write: (*conn).write,
	handle: (*Node).handleLegacy, open: (*Node).openLegacy,
}

// legacyMethod is one of the node's calls after a login.
type legacyMethod struct {
	failed string // what an error's text begins with
	answer string // the answer's method; empty: the request's own
	run    func(*Node, *conn, *legacyMessage) (any, error)
	moves  bool // balances: done well, the caller's are sent before the answer
}

var legacyMethods = map[string]legacyMethod{
	"ping":                {failed: "Failed to process ping: ", answer: "pong", run: legacyPing},
	"get_config":          {failed: "Failed to get config: ", run: legacyConfig},
	"get_assets":          {failed: "Failed to get assets: ", run: legacyAssets},
	"get_app_definition":  {failed: "Failed to get app definition: ", run: legacyAppDefinition},
	"get_app_sessions":    {failed: "Failed to get app sessions: ", run: legacyAppSessions},
	"get_ledger_balances": {failed: "Failed to get ledger balances: ", run: legacyLedgerBalances},
	"get_ledger_entries":  {failed: "Failed to get ledger entries: ", run: legacyLedgerEntries},
	"create_app_session":  {failed: "Failed to create application: ", run: legacyCreate, moves: true},
	"close_app_session":   {failed: "Failed to close application: ", run: legacyClose, moves: true},
}

// legacyAnswer is what is said to one frame. The zero value is silence.
type legacyAnswer struct {
	method string // "error" for errors
	result []any
	text   string // the error's
	own    bool   // it carries the request's id; else the server's clock in ms
	signed bool   // over the value of res; else over "null"
	last   bool   // the connection ends after it
	login  string // the address that is signed in from here on
	ts     uint64
}

func legacyError(text string) legacyAnswer { return legacyAnswer{method: "error", text: text} }

// handleLegacy serves one frame, as handle does.
func (n *Node) handleLegacy(c *conn, raw []byte) bool {
	m, err := decodeLegacy(raw)
	r := &m.request
	if err == nil && !n.arrive(c, r) {
		return false
	}
	n.note(r)
	f := Fault{Kind: noFault}
	var a legacyAnswer
	switch user := n.user(c); {
	case user == "" && err != nil:
		a = legacyError(err.Error())
		a.last = true
	case user == "":
		a, f = n.beforeLogin(c, m)
	default:
		a, f = n.afterLogin(c, m, user, err)
	}
	if c.life.ctx.Err() != nil {
		n.settled(r, "")
		return false
	}
	n.settled(r, a.outcome())
	return n.replyLegacy(c, r, a, f)
}

func (a legacyAnswer) outcome() string {
	if a.method == "error" {
		return a.text
	}
	return outcome(nil)
}

// beforeLogin knows two calls. A res frame brings the real node's goroutine down, and the connection with it.
func (n *Node) beforeLogin(c *conn, m *legacyMessage) (legacyAnswer, Fault) {
	run := map[string]func(*Node, *legacyMessage) (legacyAnswer, error){
		"auth_request": legacyAuthRequest, "auth_verify": legacyAuthVerify,
	}[m.method]
	switch {
	case m.answer:
		return legacyAnswer{last: true}, Fault{Kind: noFault}
	case run == nil:
		return legacyError("Authentication required. Please send auth_request first."), Fault{Kind: noFault}
	}
	f := n.strike(&m.request, func(k FaultKind) bool { return !k.early() && k != ExpireAuth })
	if f.Kind == Error {
		return legacyError(f.Text), f
	}
	a, err := run(n, m)
	switch {
	case err != nil:
		a = legacyError(err.Error())
	case f.Kind == ErrorApplied:
		login := a.login
		a = legacyError(f.Text)
		a.login = login
	}
	return a, f
}

// afterLogin takes up a frame of somebody signed in. Err is why it can't be read, if it can't.
func (n *Node) afterLogin(c *conn, m *legacyMessage, user string, err error) (legacyAnswer, Fault) {
	none := Fault{Kind: noFault}
	if !n.active(user) {
		a := legacyError("Session expired. Please re-authenticate.")
		a.last = true
		return a, none
	}
	switch {
	case err != nil:
		a := legacyError(err.Error())
		a.last = m.readable
		return a, none
	case m.sid != "":
		return n.forward(m, user), none
	case m.answer:
		return legacyAnswer{}, none
	}
	if err := n.fresh(m.ts); err != nil {
		return m.error(err.Error()), none
	}
	known, ok := legacyMethods[m.method]
	if !ok {
		return m.error("Unsupported method"), none
	}
	f := n.strike(&m.request, func(k FaultKind) bool { return !k.early() })
	if f.Kind == ExpireAuth {
		n.expire(user)
		return n.afterLogin(c, m, user, nil)
	}
	return n.runLegacy(c, m, known, f), f
}

// runLegacy carries out one call and the balance update after it. The fault may stand in for either.
func (n *Node) runLegacy(c *conn, m *legacyMessage, known legacyMethod, f Fault) legacyAnswer {
	if f.Kind == Error {
		return m.error(f.Text)
	}
	ended := n.atWork(&m.request)
	result, err := known.run(n, c, m)
	ended()
	switch {
	case err != nil && f.Kind == ErrorApplied:
		return m.error(f.Text)
	case err != nil:
		return m.error(known.failed + err.Error())
	}
	a := legacyAnswer{method: m.method, result: []any{}, own: true, signed: true, ts: millis(n.cfg.Now())}
	if known.answer != "" {
		a.method = known.answer
	}
	if m.method == "close_app_session" && n.cfg.Legacy.AppSessionClosed {
		a.method = "app_session_closed"
	}
	if result != nil {
		a.result = []any{result}
	}
	if m.method == "close_app_session" && n.cfg.CloseAnswer != nil {
		a.method, a.result[0] = n.cfg.CloseAnswer(result.(legacyRow).ID)
	}
	if known.moves {
		n.tellLegacyBalances(n.user(c))
	}
	if f.Kind == ErrorApplied {
		return m.error(f.Text)
	}
	return a
}

// error is a call's: it carries the call's id.
func (m *legacyMessage) error(text string) legacyAnswer {
	a := legacyError(text)
	a.own = true
	return a
}

// replyLegacy sends the answer, as the fault lets it through, and what follows it.
func (n *Node) replyLegacy(c *conn, r *request, a legacyAnswer, f Fault) bool {
	if a.method != "" && !c.deliver(n.sealLegacy(r.id, a, f), f) {
		return false
	}
	if a.login != "" {
		n.welcomeLegacy(c, a.login)
	}
	if a.last {
		c.hangUp()
	}
	return !a.last
}

// welcomeLegacy makes the connection the newest of its address, which is where the notifications go, channels and balances
// first.
func (n *Node) welcomeLegacy(c *conn, login string) {
	n.mu.Lock()
	c.wallet = login
	c.life.newest[login] = c
	n.book.see(login)
	n.mu.Unlock()
	n.notifyLegacy(login, "channels", []any{})
	n.tellLegacyBalances(login)
}

// notifyLegacy sends a notification to the newest connection of a login, as long as no connection of that login ended since.
// Nothing about it says that nobody asked: its id is the server's clock in ms.
func (n *Node) notifyLegacy(login, method string, result any) {
	n.mu.Lock()
	var to *conn
	if n.life != nil {
		to = n.life.newest[login]
	}
	n.mu.Unlock()
	if to != nil {
		to.send(n.sealLegacy(0, legacyAnswer{method: method, result: []any{result}}, Fault{Kind: noFault}))
	}
}

// tellLegacyBalances sends a login its balances, unless the database is away. They follow the login's spelling.
func (n *Node) tellLegacyBalances(login string) {
	n.mu.Lock()
	down := n.down
	balances := n.book.balances(login, login)
	n.mu.Unlock()
	if !down {
		n.notifyLegacy(login, "bu", balances)
	}
}
