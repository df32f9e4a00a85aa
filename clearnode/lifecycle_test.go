package clearnode_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestRunEndsEverything: when Run has returned nothing of the client is left, and
// calls that were waiting have ended with what is known of them.
func TestRunEndsEverything(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	c, err := clearnode.New(config(n.URL()))
	must(t, err)
	if c.Ready() == nil || c.Connected() != 0 {
		t.Error("ready before Run")
	}
	ctx, stop := context.WithCancel(t.Context())
	var running, sending sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	_ = waitReady(t, c, true)
	if err := c.Run(ctx); err == nil {
		t.Error("it runs twice")
	}
	r := prepared(t, c, openGame(t, n))
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
	var sent error
	sending.Go(func() { _, sent = c.Send(t.Context(), r) })
	eventually(t, "the close arrived", func() bool { return n.Requests("close_app_session") == 1 })
	stop()
	running.Wait()
	sending.Wait()
	wantInDoubt(t, sent)
	var stacks bytes.Buffer
	must(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
	for _, g := range strings.Split(stacks.String(), "\n\n") {
		if strings.Contains(g, "settled/clearnode.") {
			t.Errorf("left behind:\n%s", g)
		}
	}
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("ready: %v", err)
	}
	_, err = c.Send(t.Context(), r)
	if wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("sent by a client that has ended: %v", err)
	}
}

// TestChanged tells of every change of readiness.
func TestChanged(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	for range 3 {
		changed := c.Changed()
		n.Stop()
		<-changed
		_ = waitReady(t, c, false)
		changed = c.Changed()
		n.Resume()
		<-changed
		_ = waitReady(t, c, true)
	}
}

// TestStopWhileDown: Run returns also where nothing ever worked.
func TestStopWhileDown(t *testing.T) {
	for _, address := range []string{"ws://127.0.0.1:1/ws", "ws://[::1]:1/ws"} {
		c, err := clearnode.New(config(address))
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = c.Run(ctx) })
		waitReason(t, c, "dial")
		stop()
		running.Wait()
	}
}

// TestCalls: what CallFunc receives.
func TestCalls(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	var mu sync.Mutex
	counts := map[string]int{}
	cfg := config(n.URL())
	cfg.Connections, cfg.RequestTimeout = 1, time.Second
	cfg.CallFunc = func(_ context.Context, method, class string, elapsed time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		counts[method+" "+class]++
		if elapsed < 0 {
			t.Errorf("%s took %s", method, elapsed)
		}
	}
	c := ready(t, cfg)
	closeGame(t, c, openGame(t, n))
	for _, fault := range []clearnodetest.Fault{
		{Kind: clearnodetest.LoseAnswer},
		{Kind: clearnodetest.Error, Text: "no such luck"},
		{Kind: clearnodetest.Error, Text: "invalid message timestamp"},
	} {
		r := prepared(t, c, openGame(t, n))
		fault.Method = "close_app_session"
		n.Inject(fault)
		if _, err := c.Send(t.Context(), r); err == nil {
			t.Error("no error")
		}
	}
	n.Inject(clearnodetest.Fault{Method: "get_app_sessions", Kind: clearnodetest.Error, Text: "failed to get application sessions"})
	if _, err := c.Session(t.Context(), openGame(t, n), settlement.ReadOptions{Version: true}); err == nil {
		t.Error("no error")
	}
	bad := prepared(t, c, openGame(t, n))
	bad.Ref.ID++
	if _, err := c.Send(t.Context(), bad); err == nil {
		t.Error("no error")
	}
	mu.Lock()
	defer mu.Unlock()
	for call, want := range map[string]int{
		"auth_request ok": 2, "auth_verify ok": 2, "close_app_session ok": 1, "close_app_session in_doubt": 2,
		"close_app_session refused": 2, "get_app_sessions waiting": 1, "get_assets ok": 1,
	} {
		if counts[call] != want {
			t.Errorf("%s: %d, want %d (of %v)", call, counts[call], want, counts)
		}
	}
	if counts["get_ledger_balances ok"] < 1 || counts["get_ledger_balances waiting"] < 1 {
		t.Errorf("the probe is not in %v", counts)
	}
}

// TestNothingSecretIsShown: not in logs of any level, nor in any formatting.
func TestNothingSecretIsShown(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	var out lockedBuffer
	private := keyOf(0x1234567890abcdef)
	cfg := config(n.URL())
	cfg.Signers = []clearnode.Signer{clearnode.KeySigner(private)}
	cfg.Log = zerolog.New(&out).Level(zerolog.TraceLevel)
	c := ready(t, cfg)
	token := c.Token()
	def := gameDefinition()
	def.Participants[2] = crypto.PubkeyToAddress(private.PublicKey).Hex()
	id := open(t, n, def, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
	r := prepared(t, c, id)
	n.SendRaw([]byte(`{"res":[77,"nobody's",{"jwt_token":"` + token + `"},1],"sig":[]}`))
	sendOK(t, c, r)
	n.DropConnections()
	_ = waitReady(t, c, true)
	quiet := cfg
	quiet.Log = zerolog.Nop()
	shown := out.String()
	for _, v := range []any{quiet.Signers[0], quiet, &quiet} {
		shown += fmt.Sprintf("%v %+v %#v %s %d %x", v, v, v, v, v, v)
	}
	shown = strings.ToLower(shown)
	if token == "" || !strings.Contains(shown, "signed in") {
		t.Fatal("nothing was logged")
	}
	secret := hex.EncodeToString(crypto.FromECDSA(private))
	for what, text := range map[string]string{
		"key": secret[40:], "key as a number": new(big.Int).SetBytes(crypto.FromECDSA(private)).String(), "token": token, "frame": `"req":`, "signature": string(r.Frame[len(r.Frame)-60 : len(r.Frame)-10]),
	} {
		if strings.Contains(shown, strings.ToLower(text)) {
			t.Errorf("the %s is shown", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
