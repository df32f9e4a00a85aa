package nitrorpc

import (
	"encoding/json"
	"testing"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/cmd/proof/benchcompare/calibrate"
	"settled/settlement"
)

func BenchmarkCalibration(b *testing.B) { calibrate.Run(b) }

// BenchmarkSignClose makes and signs the recorded close.
func BenchmarkSignClose(b *testing.B) {
	v := readVectors(b)
	var params closeParams
	if err := json.Unmarshal([]byte(v.Requests[0].Signed), &[]any{new(uint64), new(string), &params, new(uint64)}); err != nil {
		b.Fatal(err)
	}
	n := New(protocoltest.Client{Keys: []protocol.Signer{v.signer(b, v.Requests[0].Signer)}}, &protocol.Settings{Protocol: "auto"})
	plan := settlement.Plan{Session: params.Session, Allocations: params.Allocations}
	for b.Loop() {
		if _, err := n.Prepare(b.Context(), settlement.Outcome{}, plan, settlement.Session{ID: params.Session}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyAnswer verifies the signature of a recorded answer.
func BenchmarkVerifyAnswer(b *testing.B) {
	v := readVectors(b)
	broker, err := settlement.ParseAddress(v.Frames[0].Broker)
	if err != nil {
		b.Fatal(err)
	}
	n := New(protocoltest.Client{Node: &broker}, &protocol.Settings{})
	a := decodeAnswer(b, n, v.Frames[0].Frame)
	for b.Loop() {
		if err := n.VerifyAnswer(a); err != nil {
			b.Fatal(err)
		}
	}
}

func decodeAnswer(b *testing.B, n *Node, frame string) protocol.Answer {
	b.Helper()
	in, err := n.ReadFrame(nil, []byte(frame))
	if err != nil {
		b.Fatal(err)
	}
	a, err := in.Answer()
	if err != nil {
		b.Fatal(err)
	}
	return a
}

// BenchmarkDecodeAnswer decodes the recorded transactions of a session.
func BenchmarkDecodeAnswer(b *testing.B) {
	var list []struct{ Case, Frame string }
	protocoltest.ReadJSON(b, "../../testdata/frames.json", &list)
	n := node()
	for _, r := range list {
		if r.Case != "tx_of_session_after_close" {
			continue
		}
		for b.Loop() {
			rows, err := readTransactions(decodeAnswer(b, n, r.Frame), "0xe08e265af2a24c805a940c2543f86c266fa5d14aca5c44e2482ea5f0a73f9160")
			if err != nil || len(rows) == 0 {
				b.Fatal(err)
			}
		}
		return
	}
	b.Fatal("not recorded")
}
