package nitronode

import (
	"testing"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/cmd/proof/benchcompare/calibrate"
	"settled/settlement"
)

func BenchmarkCalibration(b *testing.B) { calibrate.Run(b) }

// recordedSession is a recorded answer to get_app_sessions by id.
func recordedSession(b *testing.B) (raw []byte, id settlement.SessionID) {
	b.Helper()
	raw = []byte(recorded(b, "recv")["sessions_by_id"])
	f, err := readFrame(raw)
	if err != nil {
		b.Fatal(err)
	}
	a, err := f.answer()
	if err != nil {
		b.Fatal(err)
	}
	var p struct {
		Rows []sessionRow `json:"app_sessions"`
	}
	if err := a.Decode(methodSessions, &p); err != nil || len(p.Rows) != 1 {
		b.Fatal(err)
	}
	return raw, settlement.SessionID(p.Rows[0].ID)
}

// BenchmarkDecodeAnswer decodes the recorded session.
func BenchmarkDecodeAnswer(b *testing.B) {
	raw, id := recordedSession(b)
	n := New(protocoltest.Client{}, &protocol.Settings{})
	for b.Loop() {
		in, err := n.ReadFrame(&protocoltest.Conn{}, raw)
		if err != nil {
			b.Fatal(err)
		}
		a, err := in.Answer()
		if err == nil {
			_, err = readSession(a, id)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignClose makes and signs the update of the session's allocation.
func BenchmarkSignClose(b *testing.B) {
	const alice, bob = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf", "0x2b5ad5c4795c026514f8317c7a215e218dccd6cf"
	ten, err := settlement.ParseAmount("10")
	if err != nil {
		b.Fatal(err)
	}
	const id = "0xaed55c4535f60407992569e0410aff471f17d2909aec92fe943365a37340a76f"
	s := settlement.Session{ID: id, Open: true, Versioned: true, Version: 2, Decimals: map[settlement.Asset]int32{"usdc": 6}, Current: []settlement.Allocation{{Participant: alice, Asset: "usdc", Amount: ten}}}
	plan := settlement.Plan{Session: id, BaseVersion: 2, Allocations: []settlement.Allocation{{Participant: alice, Asset: "usdc"}, {Participant: bob, Asset: "usdc", Amount: ten}}}
	n := New(protocoltest.Client{Keys: []protocol.Signer{protocoltest.NewKey(b, 3)}}, &protocol.Settings{})
	for b.Loop() {
		if r, err := n.Prepare(b.Context(), settlement.Outcome{}, plan, s); err != nil || r.Closes {
			b.Fatal(r.Closes, err)
		}
	}
}
