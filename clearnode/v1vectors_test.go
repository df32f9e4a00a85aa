package clearnode

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// TestV1Vectors: updates are packed and signed as recorded, byte for byte.
func TestV1Vectors(t *testing.T) {
	var v struct {
		Updates []struct {
			Packed    string   `json:"abi_packed"`
			Update    v1Update `json:"app_state_update"`
			Digest    string   `json:"eip191_digest"`
			Keccak    string   `json:"keccak256"`
			Signature string   `json:"quorum_sig_wallet"`
			Signer    string   `json:"signer"`
		} `json:"app_state_update_v1"`
	}
	readJSON(t, "testdata/v1/vectors.json", &v)
	if len(v.Updates) < 3 {
		t.Fatalf("%d vectors", len(v.Updates))
	}
	for i, want := range v.Updates {
		packed, err := want.Update.pack()
		if err != nil || "0x"+hex.EncodeToString(packed) != want.Packed {
			t.Errorf("vector %d: packed %x, %v", i, packed, err)
		}
		if hash := keccak(packed); "0x"+hex.EncodeToString(hash[:]) != want.Keccak {
			t.Errorf("vector %d: hash %x", i, hash)
		}
		if digest := v1Scheme.digest(packed); "0x"+hex.EncodeToString(digest[:]) != want.Digest {
			t.Errorf("vector %d: digest %x", i, digest)
		}
		if text, err := v1Scheme.sign(t.Context(), newKey(testKey(t, 3)), packed); err != nil || text != want.Signature {
			t.Errorf("vector %d: signature %s, %v", i, text, err)
		}
		if signer, err := v1Scheme.signer(packed, want.Signature); err != nil || signer.String() != want.Signer {
			t.Errorf("vector %d: signer %s, %v", i, signer, err)
		}
	}
}

// TestV1RecordedFrames: what we write for a recorded update is what was recorded,
// and accepted, byte for byte.
func TestV1RecordedFrames(t *testing.T) {
	frames := recordedV1(t, "testdata/v1/transcript.jsonl", "send")
	c := &Client{cfg: Config{}.filled()}
	for _, tc := range []struct {
		it      string
		signers []int64
	}{
		{"operate_ok", []int64{3}}, {"close_ok", []int64{3}}, {"close_direct_current_allocations", []int64{3}},
		{"operate_lower_case_addresses", []int64{3}}, {"close_zero_row_omitted", []int64{3}},
		{"operate_5050_ok", []int64{1, 2}}, {"close_5050_ok", []int64{1, 2}}, {"close_unfunded_empty_allocations", []int64{3}},
	} {
		var id, ts uint64
		var s v1Submission
		if err := json.Unmarshal([]byte(frames[tc.it]), &[]any{new(int), &id, new(string), &s, &ts}); err != nil {
			t.Fatal(tc.it, err)
		}
		c.cfg.Signers = nil
		for _, n := range tc.signers {
			c.cfg.Signers = append(c.cfg.Signers, newKey(testKey(t, n)))
		}
		frame, err := rewritten(t, c, s.Update, id, ts)
		if err != nil || string(frame) != frames[tc.it] {
			t.Errorf("%s: %s, %v\nrecorded %s", tc.it, frame, err, frames[tc.it])
		}
	}
}

// rewritten is the frame that follows from the session and the plan of a recorded
// update.
func rewritten(t *testing.T, c *Client, u v1Update, id, ts uint64) ([]byte, error) {
	t.Helper()
	var version uint64
	if _, err := fmt.Sscan(u.Version, &version); err != nil {
		t.Fatal(err)
	}
	s := settlement.Session{ID: u.Session, Open: true, Version: version - 1, Quorum: 100, Decimals: map[settlement.Asset]int32{"usdc": 6}}
	if u.Intent == v1Close {
		s.Current = u.Allocations
	}
	for _, k := range c.cfg.Signers {
		s.Participants = append(s.Participants, settlement.Participant{Address: k.Address(), Weight: 100 / int64(len(c.cfg.Signers))})
	}
	o := settlement.Outcome{SessionData: &u.SessionData}
	again, err := nextUpdate(o, settlement.Plan{BaseVersion: s.Version, Allocations: u.Allocations}, s)
	if err != nil {
		return nil, err
	}
	packed, err := again.pack()
	if err != nil {
		return nil, err
	}
	sigs, err := c.gather(context.Background(), Proposal{Payload: packed}, s, v1Scheme, nil)
	if err != nil {
		return nil, err
	}
	return again.frame(id, ts, sigs)
}

// TestV1RecordedErrors: every error that the real node answered an update with is
// known, and none of them leaves a doubt.
func TestV1RecordedErrors(t *testing.T) {
	meanings := map[string]meaning{
		"close_already_closed": passing, "operate_wrong_version": passing, "operate_same_again": passing,
		"close_with_new_split_without_operate": passing, "close_missing_row": passing,
		"operate_sum_low": passing, "operate_missing_row": passing,
	}
	sent := recordedV1(t, "testdata/v1/transcript.jsonl", "send")
	n := 0
	for it, frame := range recordedV1(t, "testdata/v1/transcript.jsonl", "recv") {
		a := readV1Answer(t, frame)
		text, failed := a.failed()
		if !failed || !strings.Contains(sent[it], v1Submit) {
			continue
		}
		n++
		want, listed := meanings[it]
		if !listed {
			want = never
		}
		if r := v1Refusals.find(text); r.meaning != want || want == never && r.code == "" {
			t.Errorf("%s: %q is %+v", it, text, r)
		}
	}
	if n < 25 {
		t.Errorf("only %d errors", n)
	}
}

// TestV1Races: of each recorded pair of rivals one was carried out, and the other
// knows that it was not.
func TestV1Races(t *testing.T) {
	lost, won := 0, 0
	for _, r := range recordV1(t, "testdata/v1/race.jsonl") {
		if r.Dir != "recv" || !strings.Contains(r.Frame, v1Submit) {
			continue
		}
		if text, failed := readV1Answer(t, r.Frame).failed(); !failed {
			won++
		} else if found := v1Refusals.find(text); found.meaning == passing {
			lost++
		} else {
			t.Errorf("%q is %+v", text, found)
		}
	}
	if lost < 15 || won < 15 {
		t.Errorf("%d lost, %d won", lost, won)
	}
}

// TestV1SourceErrors: texts that were read in the node's source.
func TestV1SourceErrors(t *testing.T) {
	const who = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
	driver := "ERROR: canceling statement due to user request (SQLSTATE 57014)\n\tand more"
	for text, want := range map[string]meaning{
		"failed to process app state update":             doubtful,
		"failed to create response":                      doubtful,
		"an error occurred while processing the request": doubtful,
		"something new":                                  doubtful,
		"":                                               doubtful,
		"app session is already closed ":                 doubtful,
		"app session not found: " + driver:               passing,
		"failed to get current allocations: " + driver:   passing,
		"failed to record close ledger entry: " + driver: passing,
		"failed to update app session: " + driver:        passing,
		"failed to recover user wallet: failed to get session key owner: " + driver:                                                                    passing,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: escrow lock is still ongoing":                 escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: mutual lock is still ongoing":                 escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: escrow deposit finalization is still ongoing": escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: failed to check ongoing escrow operation: x":  passing,
		"failed to issue release state for participant " + who + ": failed to lock receiver state: x":                                                  passing,
		"close intent contains unexpected allocation for participant " + who + ", asset usdc with amount 8":                                            passing,
		"failed to parse app state update":                                        never,
		"quorum_sigs count (3) exceeds participants count (2)":                    never,
		"failed to recover user wallet: invalid signature: unknown signer type 7": never,
	} {
		if got := v1Refusals.find(text); got.meaning != want {
			t.Errorf("%q is %+v, want %d", text, got, want)
		}
	}
}

// TestV1RecordedReads: the answers of the real node, as it wrote them.
func TestV1RecordedReads(t *testing.T) {
	frames := recordedV1(t, "testdata/v1/transcript.jsonl", "recv")
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	s, err := readV1Session(readV1Answer(t, frames["sessions_by_id"]), id)
	if err != nil || !s.Open || !s.Versioned || s.Version != 1 || s.Quorum != 100 || s.Application != "cnharness" || len(s.Current) != 2 ||
		s.Current[0].Amount.String() != "5" || s.Current[1].Participant != "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf" {
		t.Errorf("open: %+v, %v", s, err)
	}
	order := []int64{0, 100, 0} // by address: B, judge, A
	for i, p := range s.Participants {
		if p.Weight != order[i] || p.Spelling != strings.ToLower(p.Address.String()) {
			t.Errorf("participant %d: %+v", i, p)
		}
	}
	s, err = readV1Session(readV1Answer(t, frames["sessions_after_close"]), id)
	if err != nil || s.Open || s.Version != 3 || len(s.Current) != 2 || !s.Unfunded() {
		t.Errorf("closed: %+v, %v", s, err)
	}
	if _, err := readV1Session(readV1Answer(t, frames["sessions_by_participant_lower"]), id); err == nil {
		t.Error("a list of two sessions was taken for one")
	}
	p, err := readV1Transactions(readV1Answer(t, frames["user_transactions_A"]), "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf", v1Release)
	if err != nil || len(p.rows) != 1 || p.rows[0].move == nil || p.rows[0].move.Amount.String() != "7" || p.rows[0].move.Asset != "usdc" || p.rows[0].move.session != id || p.total != 1 || p.rows[0].at.Unix() != 1795309422 {
		t.Errorf("transactions %+v, %v", p, err)
	}
	address, err := readNodeAddress(readV1Answer(t, frames["get_config"]))
	if err != nil || address.String() != crypto.PubkeyToAddress(testKey(t, 0xb0).PublicKey).Hex() {
		t.Errorf("address %s, %v", address, err)
	}
	assets, err := readV1Assets(readV1Answer(t, frames["get_assets"]))
	if err != nil || assets["usdc"] != 6 || assets["weth"] != 18 || len(assets) != 2 {
		t.Errorf("assets %v, %v", assets, err)
	}
}

// testKey is a throw-away key: the number itself.
func testKey(t testing.TB, n int64) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(big.NewInt(n).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readV1Answer(t testing.TB, frame string) answer {
	t.Helper()
	f, err := readV1Frame([]byte(frame))
	if err != nil {
		t.Fatal(frame, err)
	}
	a, err := f.answer()
	if err != nil || a.response != frame {
		t.Fatal(frame, err)
	}
	return a
}

type v1Record struct {
	Dir   string `json:"dir"`
	Case  string `json:"case"`
	Frame string `json:"frame"`
}

func recordV1(t testing.TB, path string) (all []v1Record) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r v1Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// recordedV1 is the first frame of each case in one direction.
func recordedV1(t testing.TB, path, dir string) map[string]string {
	t.Helper()
	frames := map[string]string{}
	for _, r := range slices.Backward(recordV1(t, path)) {
		if r.Dir == dir {
			frames[r.Case] = r.Frame
		}
	}
	return frames
}
