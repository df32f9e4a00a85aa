package clearnode

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// party is a throw-away key: the number itself.
func party(n int) *key {
	private, err := crypto.ToECDSA(common.LeftPadBytes(big.NewInt(int64(n)).Bytes(), 32))
	if err != nil {
		panic(err)
	}
	return newKey(private)
}

// sessionOf has participants 1, 2, 3 … of these weights.
func sessionOf(quorum int64, weights ...int64) settlement.Session {
	s := settlement.Session{Quorum: quorum}
	for i, w := range weights {
		a := party(i + 1).Address()
		s.Participants = append(s.Participants, settlement.Participant{Address: a, Spelling: a.String(), Weight: w})
	}
	return s
}

func clientOf(cosigners Cosigners, own ...int) *Client {
	cfg := Config{Cosigners: cosigners, CosignTimeout: time.Hour}
	for _, n := range own {
		cfg.Signers = append(cfg.Signers, party(n))
	}
	return &Client{cfg: cfg.withDefaults(), disabledKeys: map[settlement.Address]bool{}}
}

// fakeParties are the other parties: what each does when it is asked.
type fakeParties struct {
	do map[settlement.Address]func(ctx context.Context, p Proposal) ([]byte, error)

	mu    sync.Mutex
	asked map[settlement.Address]int
	busy  int
}

func (f *fakeParties) Cosign(ctx context.Context, of settlement.Address, p Proposal) ([]byte, error) {
	f.mu.Lock()
	if f.asked == nil {
		f.asked = map[settlement.Address]int{}
	}
	f.asked[of]++
	f.busy++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy--
		f.mu.Unlock()
	}()
	if do := f.do[of]; do != nil {
		return do(ctx, p)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (f *fakeParties) idle(t interface{ Errorf(string, ...any) }) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy != 0 {
		t.Errorf("%d of those who were asked have not heard that it is over", f.busy)
	}
}

func signsBy(n int, h protocol.Scheme) func(context.Context, Proposal) ([]byte, error) {
	return func(ctx context.Context, p Proposal) ([]byte, error) { return h.Sign(ctx, party(n), p.Payload) }
}

func refuses(context.Context, Proposal) ([]byte, error) {
	return nil, fmt.Errorf("asked: %w", settlement.Fail(settlement.AllocationRejected, "this co-signer would pay less"))
}

func answers(sig []byte, err error) func(context.Context, Proposal) ([]byte, error) {
	return func(context.Context, Proposal) ([]byte, error) { return sig, err }
}

// TestMaySign: what is known before anybody is asked to sign.
func TestMaySign(t *testing.T) {
	parties := &fakeParties{}
	for _, tc := range []struct {
		it        string
		own       []int
		cosigners Cosigners
		given     []string
		s         settlement.Session
		code      settlement.Code
	}{
		{"enough", []int{3}, nil, nil, sessionOf(100, 0, 0, 100), ""},
		{"two keys", []int{1, 2}, nil, nil, sessionOf(100, 50, 50), ""},
		{"a key that is nobody's beside it", []int{9, 3}, nil, nil, sessionOf(100, 0, 0, 100), ""},
		{"no participant", []int{9}, parties, nil, sessionOf(100, 0, 0, 100), settlement.NotAParticipant},
		{"half", []int{1}, nil, nil, sessionOf(100, 50, 50), settlement.QuorumNotReached},
		{"half, and co-signers", []int{1}, parties, nil, sessionOf(100, 50, 50), ""},
		{"half, and signatures", []int{1}, nil, []string{"0x"}, sessionOf(100, 50, 50), ""},
		{"too few for ever", []int{1}, parties, nil, sessionOf(100, 50, 49), settlement.QuorumNotReached},
		{"no weight, and co-signers", []int{1}, parties, nil, sessionOf(100, 0, 100), ""},
		{"twice, the last counts", []int{1}, nil, nil, twice(sessionOf(100, 100)), settlement.QuorumNotReached},
	} {
		f := clientOf(tc.cosigners, tc.own...).checkQuorum(tc.s, tc.given)
		if (f == nil) != (tc.code == "") || f != nil && f.Code != tc.code {
			t.Errorf("%s: %v", tc.it, f)
		}
	}
}

// twice lists the first participant once more, with a weight of 1.
func twice(s settlement.Session) settlement.Session {
	p := s.Participants[0]
	p.Weight = 1
	s.Participants = append(s.Participants, p)
	return s
}

// TestNeeded: whether a close can have been anybody's but ours.
func TestNeeded(t *testing.T) {
	for _, tc := range []struct {
		own  []int
		s    settlement.Session
		want bool
	}{
		{[]int{3}, sessionOf(100, 0, 0, 100), true},
		{[]int{1}, sessionOf(100, 50, 50), true},
		{[]int{1}, sessionOf(100, 50, 50, 50), false},
		{[]int{1, 2}, sessionOf(100, 50, 50, 50), true},
		{[]int{9}, sessionOf(100, 100), false},
		{[]int{2}, twice(sessionOf(101, 100, 1)), false},
		{[]int{1}, sessionOf(0, 1), false},
	} {
		if got := clientOf(nil, tc.own...).isNeeded(tc.s); got != tc.want {
			t.Errorf("%v of %+v: %v", tc.own, tc.s, got)
		}
	}
}

// TestCosigned: what is said, and to whom, where others are asked.
func TestCosigned(t *testing.T) {
	one, two, three := party(1).Address(), party(2).Address(), party(3).Address()
	type does = map[settlement.Address]func(context.Context, Proposal) ([]byte, error)
	for _, tc := range []struct {
		it   string
		s    settlement.Session
		does does
		code settlement.Code
		says []string
	}{
		{"signs", sessionOf(100, 50, 50), does{two: signsBy(2, protocol.Plain)}, "", nil},
		{"one signs, one is slow", sessionOf(100, 50, 50, 50), does{two: signsBy(2, protocol.Plain)}, "", nil},
		{"one signs, one refuses", sessionOf(100, 50, 50, 50), does{two: refuses, three: signsBy(3, protocol.Plain)}, "", nil},
		{"the one refuses", sessionOf(100, 50, 50), does{two: refuses}, settlement.QuorumNotReached, []string{two.String(), "this co-signer would pay less", "50", "100"}},
		{"refused by one, the other slow", sessionOf(100, 50, 25, 25), does{two: refuses}, settlement.QuorumNotReached, []string{two.String(), "this co-signer would pay less"}},
		{"another signs for him", sessionOf(100, 50, 50, 50), does{two: signsBy(3, protocol.Plain), three: answers(nil, context.DeadlineExceeded)}, settlement.Code(settlement.CosignersUnavailable),
			[]string{two.String(), "signed by " + three.String(), three.String() + " did not answer in time"}},
		{"a stranger signs", sessionOf(100, 50, 50), does{two: signsBy(9, protocol.Plain)}, settlement.Code(settlement.CosignersUnavailable), []string{party(9).Address().String()}},
		{"our own signature comes back", sessionOf(100, 50, 50), does{two: signsBy(1, protocol.Plain)}, settlement.Code(settlement.CosignersUnavailable), []string{one.String()}},
		{"no signature", sessionOf(100, 50, 50), does{two: answers(nil, nil)}, settlement.Code(settlement.CosignersUnavailable), []string{two.String(), "0 bytes"}},
		{"not now", sessionOf(100, 50, 50), does{two: answers(nil, &settlement.Waiting{Reason: settlement.NotReady})}, settlement.Code(settlement.CosignersUnavailable), []string{two.String(), "not_ready"}},
	} {
		parties := &fakeParties{do: tc.does}
		sigs, err := clientOf(parties, 1).collectSignatures(t.Context(), Proposal{Payload: []byte("close it")}, tc.s, protocol.Plain, nil)
		parties.idle(t)
		if tc.code == "" && (err != nil || len(sigs) != 2) {
			t.Errorf("%s: %d signatures, %v", tc.it, len(sigs), err)
		}
		wantCode(t, tc.it, err, tc.code, tc.says)
	}
}

// wantCode: the failure's code, or the reason to wait.
func wantCode(t *testing.T, it string, err error, code settlement.Code, says []string) {
	t.Helper()
	var f *settlement.Failure
	var w *settlement.Waiting
	got := settlement.Code("")
	if errors.As(err, &f) {
		got = f.Code
	}
	if errors.As(err, &w) {
		got = settlement.Code(w.Reason)
	}
	if got != code {
		t.Errorf("%s: %v, want %q", it, err, code)
	}
	for _, word := range says {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v doesn't say %q", it, err, word)
		}
	}
}

// TestCosignedAtOnce: nobody waits for another to answer.
func TestCosignedAtOnce(t *testing.T) {
	var all sync.WaitGroup
	all.Add(3)
	parties := &fakeParties{do: map[settlement.Address]func(context.Context, Proposal) ([]byte, error){}}
	for n := 2; n <= 4; n++ {
		parties.do[party(n).Address()] = func(ctx context.Context, p Proposal) ([]byte, error) {
			all.Done()
			all.Wait()
			return signsBy(n, protocol.Plain)(ctx, p)
		}
	}
	sigs, err := clientOf(parties, 1).collectSignatures(t.Context(), Proposal{Payload: []byte("close it")}, sessionOf(4, 1, 1, 1, 1), protocol.Plain, nil)
	if err != nil || len(sigs) != 4 {
		t.Errorf("%d signatures, %v", len(sigs), err)
	}
}

// TestCosignedInTime: it ends when the time is up, or nobody waits any more, and
// then nothing of it is left.
func TestCosignedInTime(t *testing.T) {
	parties := &fakeParties{}
	c := clientOf(parties, 1)
	c.cfg.CosignTimeout = 10 * time.Millisecond
	_, err := c.collectSignatures(t.Context(), Proposal{}, sessionOf(100, 50, 50, 50), protocol.Plain, nil)
	parties.idle(t)
	wantCode(t, "time", err, settlement.Code(settlement.CosignersUnavailable), []string{party(2).Address().String(), party(3).Address().String(), "in time"})
	c.cfg.CosignTimeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	parties.do = map[settlement.Address]func(context.Context, Proposal) ([]byte, error){
		party(2).Address(): func(context.Context, Proposal) ([]byte, error) { cancel(); return nil, errors.New("gone") },
	}
	if _, err := c.collectSignatures(ctx, Proposal{}, sessionOf(100, 50, 50, 50), protocol.Plain, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	parties.idle(t)
}

// TestGiven: a signature that came with the outcome is written again.
func TestGiven(t *testing.T) {
	payload := []byte("close it")
	sig, err := nitronode.Scheme.Sign(t.Context(), party(2), payload)
	if err != nil {
		t.Fatal(err)
	}
	want := hexutil.Encode(sig)
	sig[65] -= 27
	for _, text := range []string{want, want[2:], strings.ToUpper(want[2:]), hexutil.Encode(sig)} {
		sigs, err := clientOf(nil, 1).collectSignatures(t.Context(), Proposal{Payload: payload}, sessionOf(100, 50, 50), nitronode.Scheme, []string{"0x", text, text})
		if err != nil || len(sigs) != 2 || sigs[1] != want {
			t.Errorf("%s: %v, %v", text, sigs, err)
		}
	}
	if err := (Proposal{Protocol: "nitrorpc/0.2", Payload: payload}).SignedBy(party(2).Address(), sig); err == nil {
		t.Error("a signature of another scheme was taken")
	}
}

// TestMany: what co-signers say is foreign, and is cut.
func TestMany(t *testing.T) {
	weights := make([]int64, 40)
	parties := &fakeParties{do: map[settlement.Address]func(context.Context, Proposal) ([]byte, error){}}
	for i := range weights {
		weights[i] = 1
		parties.do[party(i+1).Address()] = answers(nil, settlement.Fail(settlement.NodeRejected, "%s", strings.Repeat("no\n", 1<<16)))
	}
	_, err := clientOf(parties, 1).collectSignatures(t.Context(), Proposal{}, sessionOf(40, weights...), protocol.Plain, nil)
	if err == nil || len(err.Error()) > 8<<10 || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "more") {
		t.Errorf("%d bytes: %.300v", len(err.Error()), err)
	}
}
