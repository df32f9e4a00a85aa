package nitronode

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// TestV1Vectors: updates are packed and signed as recorded, byte for byte.
func TestV1Vectors(t *testing.T) {
	var v struct {
		Updates []struct {
			Packed    string `json:"abi_packed"`
			Update    update `json:"app_state_update"`
			Digest    string `json:"eip191_digest"`
			Keccak    string `json:"keccak256"`
			Signature string `json:"quorum_sig_wallet"`
			Signer    string `json:"signer"`
		} `json:"app_state_update_v1"`
	}
	protocoltest.ReadJSON(t, "../../testdata/v1/vectors.json", &v)
	if len(v.Updates) < 3 {
		t.Fatalf("%d vectors", len(v.Updates))
	}
	for i, want := range v.Updates {
		packed, err := want.Update.pack()
		if err != nil || "0x"+hex.EncodeToString(packed) != want.Packed {
			t.Errorf("vector %d: packed %x, %v", i, packed, err)
		}
		if hash := protocol.Keccak(packed); "0x"+hex.EncodeToString(hash[:]) != want.Keccak {
			t.Errorf("vector %d: hash %x", i, hash)
		}
		if digest := Scheme.Digest(packed); "0x"+hex.EncodeToString(digest[:]) != want.Digest {
			t.Errorf("vector %d: digest %x", i, digest)
		}
		sig, err := Scheme.Sign(t.Context(), protocoltest.NewKey(t, 3), packed)
		if err != nil || hexutil.Encode(sig) != want.Signature {
			t.Errorf("vector %d: signature %x, %v", i, sig, err)
		}
		if signer, _, err := Scheme.Recover(packed, sig); err != nil || signer.String() != want.Signer {
			t.Errorf("vector %d: signer %s, %v", i, signer, err)
		}
	}
}

// TestV1RecordedFrames: what we write for a recorded update is what was recorded,
// and accepted, byte for byte.
func TestV1RecordedFrames(t *testing.T) {
	frames := recorded(t, "send")
	for _, tc := range []struct {
		it      string
		signers []int64
	}{
		{"operate_ok", []int64{3}}, {"close_ok", []int64{3}}, {"close_direct_current_allocations", []int64{3}},
		{"operate_lower_case_addresses", []int64{3}}, {"close_zero_row_omitted", []int64{3}},
		{"operate_5050_ok", []int64{1, 2}}, {"close_5050_ok", []int64{1, 2}}, {"close_unfunded_empty_allocations", []int64{3}},
	} {
		var id, ts uint64
		var s submission
		if err := json.Unmarshal([]byte(frames[tc.it]), &[]any{new(int), &id, new(string), &s, &ts}); err != nil {
			t.Fatal(tc.it, err)
		}
		var c protocoltest.Client
		for _, n := range tc.signers {
			c.Keys = append(c.Keys, protocoltest.NewKey(t, n))
		}
		frame, err := rewritten(t, c, s.Update, id, ts)
		if err != nil || string(frame) != frames[tc.it] {
			t.Errorf("%s: %s, %v\nrecorded %s", tc.it, frame, err, frames[tc.it])
		}
	}
}

// rewritten is the frame that follows from the session and the plan of a recorded
// update.
func rewritten(t *testing.T, c protocoltest.Client, u update, id, ts uint64) ([]byte, error) {
	t.Helper()
	var version uint64
	if _, err := fmt.Sscan(u.Version, &version); err != nil {
		t.Fatal(err)
	}
	s := settlement.Session{ID: u.Session, Open: true, Version: version - 1, Quorum: 100, Decimals: map[settlement.Asset]int32{"usdc": 6}}
	if u.Intent == intentClose {
		s.Current = u.Allocations
	}
	o, plan := settlement.Outcome{SessionData: &u.SessionData}, settlement.Plan{BaseVersion: s.Version, Allocations: u.Allocations}
	again, err := nextUpdate(o, plan, s)
	if err != nil {
		return nil, err
	}
	packed, err := again.pack()
	if err != nil {
		return nil, err
	}
	sigs, err := c.CollectSignatures(t.Context(), Protocol, packed, Scheme, o, plan, s)
	if err != nil {
		return nil, err
	}
	return again.encode(settlement.RequestRef{ID: id, Timestamp: ts}, sigs)
}

// TestV1RecordedErrors: every error that the real node answered an update with is
// known, and none of them leaves a doubt.
func TestV1RecordedErrors(t *testing.T) {
	meanings := map[string]protocol.Meaning{
		"close_already_closed": protocol.Passing, "operate_wrong_version": protocol.Passing, "operate_same_again": protocol.Passing,
		"close_with_new_split_without_operate": protocol.Passing, "close_missing_row": protocol.Passing,
		"operate_sum_low": protocol.Passing, "operate_missing_row": protocol.Passing,
	}
	sent := recorded(t, "send")
	n := 0
	for it, frame := range recorded(t, "recv") {
		a := readAnswer(t, frame)
		text, failed := a.ErrorText()
		if !failed || !strings.Contains(sent[it], methodSubmit) {
			continue
		}
		n++
		want, listed := meanings[it]
		if !listed {
			want = protocol.Never
		}
		if r := refusals.Find(text); r.Meaning != want || want == protocol.Never && r.Code == "" {
			t.Errorf("%s: %q is %+v", it, text, r)
		}
	}
	if n < 25 {
		t.Errorf("only %d errors", n)
	}
}

// TestV1Races: of each recorded pair of rivals one was executed, and the other
// knows that it was not.
func TestV1Races(t *testing.T) {
	lost, won := 0, 0
	for _, r := range protocoltest.ReadRecording(t, "../../testdata/v1/race.jsonl", "recv") {
		if !strings.Contains(r.Frame, methodSubmit) {
			continue
		}
		if text, failed := readAnswer(t, r.Frame).ErrorText(); !failed {
			won++
		} else if found := refusals.Find(text); found.Meaning == protocol.Passing {
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
	for text, want := range map[string]protocol.Meaning{
		"failed to process app state update":             protocol.Doubtful,
		"failed to create response":                      protocol.Doubtful,
		"an error occurred while processing the request": protocol.Doubtful,
		"something new":                                  protocol.Unknown,
		"":                                               protocol.Unknown,
		"app session is already closed ":                 protocol.Unknown,
		"app session not found: " + driver:               protocol.Passing,
		"failed to get current allocations: " + driver:   protocol.Passing,
		"failed to record close ledger entry: " + driver: protocol.Passing,
		"failed to update app session: " + driver:        protocol.Passing,
		"failed to recover user wallet: failed to get session key owner: " + driver:                                                                    protocol.Passing,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: escrow lock is still ongoing":                 protocol.Escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: mutual lock is still ongoing":                 protocol.Escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: escrow deposit finalization is still ongoing": protocol.Escrow,
		"failed to issue release state for participant " + who + ": cannot issue release receiver state: failed to check ongoing escrow operation: x":  protocol.Passing,
		"failed to issue release state for participant " + who + ": failed to lock receiver state: x":                                                  protocol.Passing,
		"close intent contains unexpected allocation for participant " + who + ", asset usdc with amount 8":                                            protocol.Passing,
		"failed to parse app state update":                                        protocol.Never,
		"quorum_sigs count (3) exceeds participants count (2)":                    protocol.Never,
		"failed to recover user wallet: invalid signature: unknown signer type 7": protocol.Never,
	} {
		if got := refusals.Find(text); got.Meaning != want {
			t.Errorf("%q is %+v, want %d", text, got, want)
		}
	}
}

// TestV1RecordedReads: the answers of the real node, as it wrote them.
func TestV1RecordedReads(t *testing.T) {
	frames := recorded(t, "recv")
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	s, err := readSession(readAnswer(t, frames["sessions_by_id"]), id)
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
	s, err = readSession(readAnswer(t, frames["sessions_after_close"]), id)
	if err != nil || s.Open || s.Version != 3 || len(s.Current) != 2 || !s.Unfunded() {
		t.Errorf("closed: %+v, %v", s, err)
	}
	if _, err := readSession(readAnswer(t, frames["sessions_by_participant_lower"]), id); err == nil {
		t.Error("a list of two sessions was taken for one")
	}
	p, err := readTransactions(readAnswer(t, frames["user_transactions_A"]), "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf", typeRelease)
	if err != nil || len(p.rows) != 1 || p.rows[0].movement == nil || p.rows[0].movement.Amount.String() != "7" || p.rows[0].movement.Asset != "usdc" || p.rows[0].movement.session != id || p.total != 1 || p.rows[0].at.Unix() != 1795309422 {
		t.Errorf("transactions %+v, %v", p, err)
	}
	address, err := readNodeAddress(readAnswer(t, frames["get_config"]))
	if err != nil || address.String() != protocoltest.NewKey(t, 0xb0).Address().String() {
		t.Errorf("address %s, %v", address, err)
	}
	assets, err := readAssets(readAnswer(t, frames["get_assets"]))
	if err != nil || assets["usdc"] != 6 || assets["weth"] != 18 || len(assets) != 2 {
		t.Errorf("assets %v, %v", assets, err)
	}
}

func readAnswer(t testing.TB, frame string) protocol.Answer {
	t.Helper()
	f, err := readFrame([]byte(frame))
	if err != nil {
		t.Fatal(frame, err)
	}
	a, err := f.answer()
	if err != nil || a.Response != frame {
		t.Fatal(frame, err)
	}
	return a
}

// recorded is the first frame of each case in one direction.
func recorded(t testing.TB, dir string) map[string]string {
	t.Helper()
	frames := map[string]string{}
	for _, r := range slices.Backward(protocoltest.ReadRecording(t, "../../testdata/v1/transcript.jsonl", dir)) {
		frames[r.Case] = r.Frame
	}
	return frames
}
