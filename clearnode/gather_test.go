package clearnode

import (
	"context"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"pgregory.net/rapid"

	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// drawnSession is a session, whose keys are ours, and what the others do.
type drawnSession struct {
	s       settlement.Session
	scheme  protocol.Scheme
	own     []int
	does    map[int]string
	given   []string
	alone   bool // no co-signers
	payload []byte
}

func drawSession(t *rapid.T) drawnSession {
	l := drawnSession{does: map[int]string{}, payload: []byte("close it"), scheme: protocol.Plain, alone: rapid.Bool().Draw(t, "alone")}
	l.scheme.Checksummed = rapid.Bool().Draw(t, "spelled")
	if rapid.Bool().Draw(t, "prefixed") {
		l.scheme = nitronode.Scheme
	}
	l.s.Quorum = rapid.Int64Range(-1, 14).Draw(t, "quorum")
	for range rapid.IntRange(1, 6).Draw(t, "participants") {
		a := party(rapid.IntRange(1, 7).Draw(t, "who")).Address()
		p := settlement.Participant{Address: a, Spelling: a.String(), Weight: rapid.Int64Range(0, 5).Draw(t, "weight")}
		if rapid.IntRange(0, 5).Draw(t, "lower") == 0 {
			p.Spelling = strings.ToLower(p.Spelling)
		}
		l.s.Participants = append(l.s.Participants, p)
	}
	for n := 1; n <= 7; n++ {
		if l.does[n] = rapid.SampledFrom([]string{"ours", "signs", "refuses", "is away", "forges", "babbles"}).Draw(t, "does"); l.does[n] == "ours" {
			l.own = append(l.own, n)
		}
	}
	if len(l.own) == 0 {
		l.own, l.does[7] = []int{7}, "ours"
	}
	l.drawGiven(t)
	return l
}

// drawGiven: good ones, of another payload, of strangers, twice, and none at all.
func (l *drawnSession) drawGiven(t *rapid.T) {
	for range rapid.IntRange(0, 3).Draw(t, "given") {
		payload, who := l.payload, rapid.IntRange(1, 9).Draw(t, "by")
		if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			payload = []byte("as it was")
		}
		text, err := signHex(t.Context(), l.scheme, party(who), payload)
		if err != nil {
			t.Fatal(err)
		}
		text = rapid.SampledFrom([]string{text, text, strings.TrimPrefix(text, "0x"), strings.ToUpper(text), text[:60], "0x", "", "x", `","`}).Draw(t, "text")
		l.given = append(l.given, text)
	}
}

func (l drawnSession) parties() *fakeParties {
	f := &fakeParties{do: map[settlement.Address]func(context.Context, Proposal) ([]byte, error){}}
	for n, does := range l.does {
		f.do[party(n).Address()] = map[string]func(context.Context, Proposal) ([]byte, error){
			"signs": signsBy(n, l.scheme), "refuses": refuses, "forges": signsBy(n%7+1, l.scheme),
			"is away": answers(nil, context.DeadlineExceeded), "babbles": answers([]byte("yes"), nil),
		}[does]
	}
	return f
}

// weights are what counts, figured out once more.
func (l drawnSession) weights() map[settlement.Address]int64 {
	w := map[settlement.Address]int64{}
	for i, p := range l.s.Participants {
		later := slices.ContainsFunc(l.s.Participants[i+1:], func(q settlement.Participant) bool {
			return q.Address == p.Address && (!l.scheme.Checksummed || q.Spelling == q.Address.String())
		})
		if !later && (!l.scheme.Checksummed || p.Spelling == p.Address.String()) && p.Weight > 0 {
			w[p.Address] = p.Weight
		}
	}
	return w
}

// fewest is how many of our keys it takes, by trying all sets; 0: they don't reach.
func (l drawnSession) fewest(w map[settlement.Address]int64) int {
	best := 0
	for set := uint(1); set < 1<<len(l.own); set++ {
		var sum int64
		useful := true
		for i, n := range l.own {
			if set>>i&1 == 1 {
				weight := w[party(n).Address()]
				sum, useful = sum+weight, useful && weight > 0
			}
		}
		if n := bits.OnesCount(set); useful && sum >= l.s.Quorum && (best == 0 || n < best) {
			best = n
		}
	}
	return best
}

// TestGather: whatever the weights, whoever is ours, and whatever the others do.
func TestGather(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawSession(t)
		parties := l.parties()
		c := clientOf(parties, l.own...)
		if l.alone {
			c.cfg.Cosigners = nil
		}
		sigs, err := c.collectSignatures(t.Context(), Proposal{Payload: l.payload}, l.s, l.scheme, l.given)
		parties.idle(t)
		w := l.weights()
		if fewest := l.fewest(w); fewest > 0 {
			l.wantOurs(t, w, sigs, err, fewest, parties)
			return
		}
		if err != nil {
			l.wantReason(t, w, err)
			return
		}
		l.wantReached(t, w, sigs)
		for of, n := range parties.asked {
			if n != 1 || w[of] == 0 || c.signer(of) != nil {
				t.Errorf("%s, of weight %d, was asked %d times", of, w[of], n)
			}
		}
	})
}

// wantOurs: where our keys reach the quorum the fewest sign, and nobody is asked.
func (l drawnSession) wantOurs(t *rapid.T, w map[settlement.Address]int64, sigs []string, err error, fewest int, parties *fakeParties) {
	if err != nil || len(sigs) != fewest || len(parties.asked) != 0 {
		t.Fatalf("%d signatures, %d asked, %v; %d of our keys are enough", len(sigs), len(parties.asked), err, fewest)
	}
	l.wantReached(t, w, sigs)
	for _, s := range sigs {
		if signer, _ := signerOf(l.scheme, l.payload, s); !slices.ContainsFunc(l.own, func(n int) bool { return party(n).Address() == signer }) {
			t.Errorf("signed by %s", signer)
		}
	}
}

// wantReached: each signature counts, each once, and together they are enough, not
// without the last one.
func (l drawnSession) wantReached(t *rapid.T, w map[settlement.Address]int64, sigs []string) {
	var sum, last int64
	seen := map[settlement.Address]bool{}
	for _, s := range sigs {
		signer, err := signerOf(l.scheme, l.payload, s)
		if err != nil || w[signer] == 0 || seen[signer] {
			t.Errorf("signature %s of %s: %v", s, signer, err)
		}
		seen[signer] = true
		sum, last = sum+w[signer], w[signer]
	}
	if sum < l.s.Quorum || len(sigs) == 0 || len(sigs) > 1 && sum-last >= l.s.Quorum {
		t.Errorf("%d signatures of weight %d for a quorum of %d", len(sigs), sum, l.s.Quorum)
	}
}

// wantReason: a failure exactly where nobody who might still sign makes it
// possible; else it is waited.
func (l drawnSession) wantReason(t *rapid.T, w map[settlement.Address]int64, err error) {
	var all, sure int64
	n, some := 0, 0
	for who := 1; who <= 7; who++ {
		a := party(who).Address()
		given := slices.ContainsFunc(l.given, func(text string) bool {
			sig, err := parseSignature(text)
			signer, _, err2 := l.scheme.Recover(l.payload, sig)
			return err == nil && err2 == nil && signer == a
		})
		if w[a] > 0 && (l.does[who] == "ours" || given || l.does[who] == "signs" && !l.alone) {
			sure, some = sure+w[a], some+1
		}
		if w[a] > 0 && (l.does[who] == "ours" || given || l.does[who] != "refuses" && !l.alone) {
			all, n = all+w[a], n+1
		}
	}
	var f *settlement.Failure
	var waiting *settlement.Waiting
	never := all < l.s.Quorum || n == 0
	switch {
	case sure >= l.s.Quorum && some > 0:
		t.Errorf("a quorum that could be reached was not: %v", err)
	case never && (!errors.As(err, &f) || f.Code != settlement.QuorumNotReached):
		t.Errorf("got %v, want quorum_not_reached", err)
	case !never && (!errors.As(err, &waiting) || waiting.Reason != settlement.CosignersUnavailable):
		t.Errorf("got %v, want cosigners_away", err)
	}
}

// signHex signs a payload, in hex.
func signHex(ctx context.Context, h protocol.Scheme, s Signer, payload []byte) (string, error) {
	sig, err := h.Sign(ctx, s, payload)
	return hexutil.Encode(sig), err
}

// signerOf is the account that made a signature in hex over a payload.
func signerOf(h protocol.Scheme, payload []byte, text string) (settlement.Address, error) {
	sig, err := hexutil.Decode(text)
	if err != nil {
		return settlement.Address{}, err
	}
	signer, _, err := h.Recover(payload, sig)
	return signer, err
}
