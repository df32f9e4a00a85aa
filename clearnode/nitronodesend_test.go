package clearnode_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestV1Rival: of two updates to one version one is executed, and the other
// knows that it was not.
func TestV1Rival(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{})
	r := prepare(t, c, settlement.Outcome{}, gamePlan(t, s), s)
	must(t, n.Submit(clearnodetest.StateUpdate{Session: string(id), Version: 4, Allocations: []clearnodetest.Allocation{put(playerA, "usdc", "1"), put(playerB, "usdc", "14")}}, keyOf(keyJudge)))
	wantRefusedV1(t, c, r, "invalid app session version")
	now := readSession(t, c, id, settlement.ReadOptions{})
	if _, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), now); err == nil {
		t.Error("an update was made for a plan of another version")
	}
	wantChecked(t, n)
}

func wantRefusedV1(t testing.TB, c *clearnode.Client, r settlement.Request, text string) *settlement.Refused {
	t.Helper()
	_, err := c.Send(t.Context(), r)
	var refused *settlement.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want it refused: %s", err, text)
	}
	return refused
}

// TestV1Escrow: a payee's escrow holds up the close, and nothing else.
func TestV1Escrow(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	n.HoldEscrow(common.HexToAddress(playerA), "usdc")
	plan := gamePlan(t, readSession(t, c, id, settlement.ReadOptions{}))
	if _, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil {
		t.Fatal(err)
	}
	_, _, err := sendV1(t, c, settlement.Outcome{}, plan)
	var refused *settlement.Refused
	if !errors.As(err, &refused) || codeOf(err) != settlement.Code(settlement.EscrowPending) {
		t.Errorf("held up: %v", err)
	}
	n.ReleaseEscrow(common.HexToAddress(playerA), "usdc")
	if r, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil || !r.Closes {
		t.Errorf("released: %v", err)
	}
	wantChecked(t, n)
}

// TestV1PrepareRefusals: what the node would refuse for ever is refused before
// anything is recorded or sent.
func TestV1PrepareRefusals(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{})
	data := func(text string) settlement.Outcome { return settlement.Outcome{SessionData: &text} }
	changed := func(change func(*settlement.Plan)) settlement.Plan {
		p := gamePlan(t, s)
		change(&p)
		return p
	}
	for _, tc := range []struct {
		it   string
		o    settlement.Outcome
		plan settlement.Plan
		code settlement.Code
	}{
		{"data of 1025 bytes", data(strings.Repeat("x", 1025)), gamePlan(t, s), settlement.InvalidOutcome},
		{"data with a NUL", data("a\x00b"), gamePlan(t, s), settlement.InvalidOutcome},
		{"data that is no UTF-8", data("a\xff"), gamePlan(t, s), settlement.InvalidOutcome},
		{"too fine", settlement.Outcome{}, changed(func(p *settlement.Plan) { p.Allocations[0].Amount = parse(t, "7.0000001") }), settlement.AllocationRejected},
		{"twice", settlement.Outcome{}, changed(func(p *settlement.Plan) { p.Allocations = append(p.Allocations, p.Allocations[1]) }), settlement.AllocationRejected},
		{"an unlisted asset", settlement.Outcome{}, changed(func(p *settlement.Plan) { p.Allocations[1].Asset = "doge" }), settlement.AllocationRejected},
		{"too large", settlement.Outcome{}, changed(func(p *settlement.Plan) {
			s.Decimals = map[settlement.Asset]int32{"usdc": 6}
			for i := range 1200 {
				asset := settlement.Asset(fmt.Sprintf("a%063d", i))
				s.Decimals[asset] = 6
				p.Allocations = append(p.Allocations, settlement.Allocation{Participant: p.Allocations[0].Participant, Asset: asset})
			}
		}), settlement.AllocationRejected},
	} {
		if _, err := c.Prepare(t.Context(), tc.o, tc.plan, s); codeOf(err) != tc.code {
			t.Errorf("%s: %v", tc.it, err)
		}
	}
	if r, err := c.Prepare(t.Context(), data(strings.Repeat("x", 1024)), gamePlan(t, s), s); err != nil || len(r.Frame) == 0 {
		t.Errorf("data of 1024 bytes: %v", err)
	}
	if r, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s); err != nil {
		t.Fatal(err)
	} else {
		r.Frame = bytes.Replace(r.Frame, []byte(`"amount":"8"`), []byte(`"amount":"9"`), 1)
		wantRefusedV1(t, c, r, "do not have the recorded digest")
	}
	if len(n.Submissions(string(id))) != 0 {
		t.Error("something was sent")
	}
}

// TestV1Flood: of far more calls than two connections may send none is the reason
// for a disconnect; each is answered or is known not to have left.
func TestV1Flood(t *testing.T) {
	n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1})
	cfg := config(n.URL())
	cfg.RequestTimeout = 2 * time.Second
	c := ready(t, cfg)
	id := openGame(t, n)
	var mu sync.Mutex
	answered, unsent := 0, 0
	var calls sync.WaitGroup
	for range 300 {
		calls.Go(func() {
			_, err := c.Session(t.Context(), id, settlement.ReadOptions{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answered++
			case errors.Is(err, clearnode.ErrNotSent):
				unsent++
			default:
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if answered < 20 || unsent == 0 || c.Connected() != 2 {
		t.Errorf("%d answered, %d not sent, %d connections", answered, unsent, c.Connected())
	}
}

// TestV1HostileFrames: frames of anybody's neither crash nor block nor convince.
func TestV1HostileFrames(t *testing.T) {
	n, c := readyV1(t)
	id := openGame(t, n)
	noise := [][]byte{
		[]byte(`[3,0,"bu",{},1795309407274]`), []byte(`[2,0,"x",{},1]`), []byte(`[2,1,"node.v1.ping",{},1]`), []byte(`{"res":[1,"x",{},1],"sig":[]}`), {0xff},
		[]byte(strings.Repeat("[", 1<<16)), []byte(`[2,` + strings.Repeat("9", 1<<16) + `]`), []byte(`"` + strings.Repeat("x", 1<<20) + `"`), []byte(`[4,5,"",{"error":"` + strings.Repeat("y", 1<<16) + `"},1]`),
	}
	for range 2 {
		for _, frame := range noise {
			n.SendRaw(frame)
		}
		if s := readSession(t, c, id, settlement.ReadOptions{}); !s.Open || s.Version != 3 {
			t.Fatalf("%+v", s)
		}
	}
	if c.Connected() != 2 {
		t.Errorf("%d connections", c.Connected())
	}
}
