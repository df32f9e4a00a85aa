package legacy

import (
	"testing"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocoltest"
	"settled/cmd/proof/benchcompare/calibrate"
)

func BenchmarkCalibration(b *testing.B) { calibrate.Run(b) }

// BenchmarkDecodeAnswer decodes a recorded list of sessions and verifies its signature.
func BenchmarkDecodeAnswer(b *testing.B) {
	raw, n := []byte(recordedCase(b, "recv", "app_sessions_open").Frame), node(b)
	for b.Loop() {
		in, err := n.ReadFrame(&protocoltest.Conn{}, raw)
		if err != nil {
			b.Fatal(err)
		}
		a, err := in.Answer()
		if err == nil {
			err = n.VerifyAnswer(a)
		}
		var list nitrorpc.SessionPage
		if err == nil {
			err = a.Decode("get_app_sessions", &list)
		}
		if err != nil || len(list) == 0 {
			b.Fatal(err)
		}
	}
}
