package clearnode_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// rawLegacyNode is a raw node that answers as the legacy one does, unless a test says
// otherwise. It knows one session, of player A, player B and the judge.
type rawLegacyNode struct {
	*rawNode
	mu     sync.Mutex
	in     map[*rawConn]bool
	logins []string
	status string
}

const rawLegacySession = "0x7fc7f015f3dbf30147909d5a4e47876736bbc4cc9ad3643cce527b8104f220af"

func startRawLegacy(t testing.TB) *rawLegacyNode {
	t.Helper()
	n := &rawLegacyNode{rawNode: startRaw(t), in: map[*rawConn]bool{}, status: "open"}
	for _, method := range []string{"ping", "get_config", "get_assets", "get_app_definition", "get_app_sessions", "close_app_session"} {
		n.on(method, n.lawful)
	}
	n.on("auth_request", func(c *rawConn, r rawRequest) {
		n.null(c, fmt.Sprintf(`[%d,"auth_challenge",[{"challenge_message":"93787637-299f-4eb3-a2b7-62eb6bbcb35c"}],%d]`, r.id, time.Now().UnixMilli()))
	})
	n.on("auth_verify", n.letIn)
	return n
}

// letIn is what follows a good auth_verify.
func (n *rawLegacyNode) letIn(c *rawConn, r rawRequest) {
	var frame struct {
		Req []json.RawMessage `json:"req"`
	}
	var params []struct {
		Address string `json:"address"`
	}
	if json.Unmarshal([]byte(r.frame), &frame) != nil || json.Unmarshal(frame.Req[2], &params) != nil {
		return
	}
	n.mu.Lock()
	n.in[c] = true
	n.logins = append(n.logins, params[0].Address)
	n.mu.Unlock()
	n.null(c, fmt.Sprintf(`[%d,"auth_verify",[{"address":"%s","success":true}],%d]`, r.id, params[0].Address, time.Now().UnixMilli()))
	for _, method := range []string{"channels", "bu"} {
		n.null(c, fmt.Sprintf(`[%d,"%s",[[]],%d]`, time.Now().UnixMilli(), method, time.Now().UnixMilli()))
	}
}

// lawful answers what needs a sign-in.
func (n *rawLegacyNode) lawful(c *rawConn, r rawRequest) {
	n.mu.Lock()
	in, status := n.in[c], n.status
	n.mu.Unlock()
	switch {
	case !in:
		n.complain(c, uint64(time.Now().UnixMilli()), "Authentication required. Please send auth_request first.")
		return
	case time.Since(time.UnixMilli(r.ts)) > n.age():
		n.complain(c, r.id, fmt.Sprintf("Message timestamp validation failed: timestamp expired: %s older than %d s", time.UnixMilli(r.ts).UTC().Format(time.RFC3339Nano), int(n.age()/time.Second)))
		return
	}
	switch r.method {
	case "ping":
		n.result(c, r.id, "pong", ``)
	case "get_config":
		n.result(c, r.id, r.method, `{"broker_address":"0x05650444aCe15A01762Bd97EE8fDeb495b3C2436","networks":[]}`)
	case "get_assets":
		n.result(c, r.id, r.method, `[]`)
	case "get_app_definition":
		n.result(c, r.id, r.method, `{"protocol":"NitroRPC/0.2","participants":["`+playerA+`","`+playerB+`","`+judge+`"],"weights":[0,0,100],"quorum":100,"challenge":86400,"nonce":1795309303771}`)
	case "get_app_sessions":
		row := ""
		if strings.Contains(r.frame, `"status":"`+status+`"`) {
			row = fmt.Sprintf(`{"app_session_id":"%s","status":"%s","version":1795309309047}`, rawLegacySession, status)
		}
		n.result(c, r.id, r.method, `[`+row+`]`)
	case "close_app_session":
		n.mu.Lock()
		n.status = "closed"
		n.mu.Unlock()
		n.result(c, r.id, r.method, `{"app_session_id":"`+rawLegacySession+`","status":"closed"}`)
	}
}

func (n *rawLegacyNode) age() time.Duration {
	n.rawNode.mu.Lock()
	defer n.rawNode.mu.Unlock()
	return n.expiry
}

// result is signed for what it says.
func (n *rawLegacyNode) result(c *rawConn, id uint64, method, result string) {
	res := fmt.Sprintf(`[%d,"%s",[%s],%d]`, id, method, result, time.Now().UnixMilli())
	c.send(fmt.Sprintf(`{"res":%s,"sig":["%s"]}`, res, n.seal(res)))
}

// null is signed over "null".
func (n *rawLegacyNode) null(c *rawConn, res string) {
	c.send(fmt.Sprintf(`{"res":%s,"sig":["%s"]}`, res, n.seal("null")))
}

func (n *rawLegacyNode) complain(c *rawConn, id uint64, text string) {
	n.null(c, fmt.Sprintf(`[%d,"error",[{"error":%q}],%d]`, id, text, time.Now().UnixMilli()))
}

func (n *rawLegacyNode) seal(text string) string {
	sig, err := crypto.Sign(crypto.Keccak256([]byte(text)), n.key)
	if err != nil {
		panic(err)
	}
	return hexutil.Encode(sig)
}

func (n *rawLegacyNode) signIns() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.logins)
}

// forget takes a connection's sign-in away.
func (n *rawLegacyNode) forget(c *rawConn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.in, c)
}
