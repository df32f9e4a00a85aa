package clearnodetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest/internal/server"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// TestLegacyLoginsRefused covers what no recording shows. The texts are the source's; every id is the server's clock.
func TestLegacyLoginsRefused(t *testing.T) {
	at := newClock(1795309613340)
	n := start(t, Config{Protocol: Legacy, Now: at.Now})
	c := connect(t, n, key(3))
	for _, tc := range []struct{ method, params, sig, want string }{
		{"auth_request", `[]`, ``, "missing parameters"},
		{"auth_request", `null`, ``, "missing parameters"},
		{"auth_request", `[7]`, ``, "invalid address"},
		{"auth_request", `[""]`, ``, "invalid address"},
		{"auth_request", `[{"address":"0x1"}]`, ``, "invalid address"},
		{"auth_verify", `[]`, ``, "missing parameters"},
		{"auth_verify", `[{"challenge":"nonsense"}]`, ``, "invalid parameters format: invalid UUID length: 8"},
		{"auth_verify", `[{"challenge":"zzzzzzzz-1111-1111-1111-111111111111"}]`, ``, "invalid parameters format: invalid UUID format"},
		{"auth_verify", `[{}]`, `"zz"`, "invalid signature"},
		{"get_app_sessions", `[{"participant":"` + judge + `"}]`, ``, "Authentication required. Please send auth_request first."},
		{"no_such_method", `[]`, ``, "Authentication required. Please send auth_request first."},
	} {
		send(t, c.ws, `{"req":[9,"`+tc.method+`",`+tc.params+`,1],"sig":[`+tc.sig+`]}`)
		if f := c.answer(); f.refusal() != tc.want || f.id != 1795309613340 {
			t.Errorf("%s %s: %s", tc.method, tc.params, f.value)
		}
	}
}

func (c *client) challengeFor(login string) string {
	c.t.Helper()
	asked := c.call("auth_request", login)
	found := challengePattern.FindStringSubmatch(asked.params)
	if found == nil {
		c.t.Fatalf("no challenge: %s", asked.params)
	}
	return found[1]
}

// TestLegacyChallenges: a challenge is valid for one spelling of one address, once, and for a limited time.
func TestLegacyChallenges(t *testing.T) {
	at := newClock(1795309613340)
	n := start(t, Config{Protocol: Legacy, Now: at.Now})
	c := connect(t, n, key(3))
	if f := c.verify(judge, c.challengeFor(playerA)); f.refusal() != "challenge was not created for this address" {
		t.Error(f.params)
	}
	if f := c.verify(strings.ToLower(judge), c.challengeFor(judge)); f.refusal() != "challenge was not created for this address" {
		t.Error(f.params)
	}
	old := c.challengeFor(judge)
	at.add(server.ChallengeLifetime + time.Millisecond)
	for _, want := range []string{"challenge expired", "challenge not found"} {
		if f := c.verify(judge, old); f.refusal() != want {
			t.Errorf("%s, want %s", f.params, want)
		}
	}
	used := c.challengeFor(strings.TrimPrefix(judge, "0x"))
	if f := c.verify(strings.TrimPrefix(judge, "0x"), used); f.params != `[{"address":"`+judge+`","success":true}]` {
		t.Error(f.params)
	}
	other := connect(t, n, key(3))
	for _, want := range []string{"challenge already used", "challenge not found"} {
		if f := other.verify(judge, used); f.refusal() != want {
			t.Errorf("%s, want %s", f.params, want)
		}
	}
}

// TestLegacySpellingIsAnotherAccount: a login by another spelling of the address has another balance.
func TestLegacySpellingIsAnotherAccount(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, Faucet: amount("100")})
	for login, want := range map[string]string{
		playerA: `[[{"asset":"usdc","amount":"100"},{"asset":"weth","amount":"100"}]]`, strings.ToLower(playerA): `[[]]`,
	} {
		c := connect(t, n, key(1))
		if f := c.legacyLogin(login); f.method != "auth_verify" {
			t.Fatal(f.params)
		}
		c.next()
		if f := c.next(); f.method != "bu" || f.params != want {
			t.Errorf("%s has %s", login, f.params)
		}
		if f := c.call("auth_request", login); f.refusal() != "Unsupported method" {
			t.Errorf("a second login: %s", f.params)
		}
	}
}

// TestLegacySignedOverNull: everything except answers to calls has the same signature.
func TestLegacySignedOverNull(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, BrokerKey: key(0xb0)})
	c := connect(t, n, key(3))
	sig, err := crypto.Sign(crypto.Keccak256([]byte("null")), key(0xb0))
	must(t, err)
	frames := []frame{c.call("ping", nil), c.legacyLogin(judge), c.next(), c.next(), c.call("no_such_method", nil)}
	for _, f := range frames {
		if f.sig != hexutil.Encode(sig) {
			t.Errorf("%s signed %s", f.value, f.sig)
		}
	}
	pong := c.call("ping", nil)
	if _, overNull := pong.signer(t); overNull || pong.sig == hexutil.Encode(sig) {
		t.Errorf("%s signed %s", pong.value, pong.sig)
	}
}

// TestLegacyForwards: a frame that names a session goes to its other participants unchanged and unread, answers included.
func TestLegacyForwards(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id := open(t, n, 1)
	a, c, stranger := loggedInAs(t, n, key(1)), loggedInAs(t, n, key(3)), loggedInAs(t, n, key(5))
	sealed := func(value string, keyOf int64, sid string) string {
		var data []any
		must(t, json.Unmarshal([]byte(value[strings.Index(value, ":")+1:]), &data))
		canonical, err := json.Marshal(data)
		must(t, err)
		sig, err := crypto.Sign(crypto.Keccak256(canonical), key(keyOf))
		must(t, err)
		return `{` + value + `,"sid":"` + sid + `","sig":["` + hexutil.Encode(sig) + `"]}`
	}
	forged := sealed(`"res":[1,"close_app_session",[{"status":"closed"}],1]`, 1, id)
	send(t, a.ws, forged)
	if raw := receive(t, c.ws); raw != forged {
		t.Errorf("received %s", raw)
	}
	asked := sealed(`"req":[5,"ping",[{"b":1,"a":2}],1]`, 5, id)
	send(t, stranger.ws, asked)
	for _, to := range []*client{a, c} {
		if raw := receive(t, to.ws); raw != asked {
			t.Errorf("received %s", raw)
		}
	}
	const failed = "Failed to forward message: "
	for raw, want := range map[string]string{
		sealed(`"req":[5,"ping",[],1]`, 3, id):      failed + "unauthorized: invalid signature or sender is not a participant of this vApp",
		sealed(`"req":[5,"ping",[],1]`, 1, "0x11"):  failed + "failed to find virtual app session: record not found",
		`{"req":[5,"x",[],1],"sid":"a","sig":[""]}`: failed + "invalid signature: invalid signature hex: empty hex string",
	} {
		send(t, a.ws, raw)
		if f := a.answer(); f.refusal() != want || f.id != f.ts {
			t.Errorf("%s: %s", raw, f.value)
		}
	}
}
