package nitrorpc

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"settled/clearnode/internal/protocoltest"
)

// recordedFrames are the frames of the real node.
func recordedFrames(t testing.TB) (frames [][]byte) {
	t.Helper()
	var list []struct {
		Frame string `json:"frame"`
	}
	protocoltest.ReadJSON(t, "../../testdata/frames.json", &list)
	for _, r := range list {
		frames = append(frames, []byte(r.Frame))
	}
	return frames
}

// oddFrames are frames whose parts a careless reader would find in the wrong place.
var oddFrames = []string{
	`{"res":[0,"bu",{},1],"res":[14,"pong",null,1],"sig":["0x1"]}`,
	`{"res":[0,"bu",{},1],"RES":[14,"pong",null,1],"sig":["0x1"]}`,
	`{"res":[0,"bu",{},1],"\u0072es":[14,"pong",null,1],"sig":["0x1"]}`,
	"{\"res\":[0,\"bu\",{},1],\"re\u017f\":[14,\"pong\",null,1],\"sig\":[\"0x1\"]}",
	`{"res":[14,"pong",{"res":[7]},1],"sig":["0x1"]}`,
	`{"res":[14,"pong",1,2,1],"sig":["0x1"]}`,
	`{"res":[14,"pong",1],"sig":["0x1"]}`,
	`{"res":[14,"pong",,1],"sig":["0x1"]}`,
	`{"res":[14,"pong", {},1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{} ,1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{}}],"sig":["0x1"],{"a":1,1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{"a":[1],"sig":["0x2"]},1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},1],"sig":["0x2"],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},1],"sig":["0x1"],"SIG":["0x2"]}`,
	`{"res":[14,"pong",{},1],"sig":["0x1","0x2"]}`,
	`{"res":[14,"pong",{},1],"sig":["0x1"]} `,
	`{"res":[14,"pong",{},1],"sig":["0x1"]}}`,
	`{"res":[14,"po\"ng",{},1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},0],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},-1],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},01],"sig":["0x1"]}`,
	`{"res":[14,"pong",{},1e3],"sig":["0x1"]}`,
	`{"res":[014,"pong",{},1],"sig":["0x1"]}`,
	`{"res":[18446744073709551615,"pong",{},1],"sig":["0x1"]}`,
	`{"res":[,"pong",{},1],"sig":["0x1"]}`,
	`{"res":[14,"",{},1],"sig":[""]}`,
	`{"res":[14,"pong",{},1],"sig":[]}`,
	`{"sig":["0x1"],"res":[14,"pong",{},1]}`,
	`{"res":[14,"pong",{},1],"sid":"x","sig":["0x1"]}`,
}

// wantSameAsDecoded fails unless what is found in a frame without decoding it is what
// decoding it gives.
func wantSameAsDecoded(t *testing.T, raw []byte) (scanned bool) {
	t.Helper()
	id, found := scanID(raw)
	if !found {
		return false
	}
	if want, err := decodeID(raw); err == nil && id != want {
		t.Errorf("%s: the id is %d, want %d", raw, id, want)
	}
	a, found := scanAnswer(raw)
	if !found {
		return false
	}
	if want, err := decodeFrame(raw); err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("%s:\n%+v, want\n%+v (%v)", raw, a, want, err)
	}
	return true
}

// TestScanRecorded: every recorded frame is read without being decoded, but those with
// characters that only decoding understands.
func TestScanRecorded(t *testing.T) {
	for _, raw := range recordedFrames(t) {
		if plain := !bytes.Contains(raw, []byte(`\`)); wantSameAsDecoded(t, raw) != plain {
			t.Errorf("%s: scanned %v, want %v", raw, !plain, plain)
		}
	}
}

// TestScanOdd also alters recorded and odd frames at random, without and with a piece of
// another frame.
func TestScanOdd(t *testing.T) {
	frames := recordedFrames(t)
	for _, text := range oddFrames {
		frames = append(frames, []byte(text))
	}
	for _, raw := range frames {
		wantSameAsDecoded(t, raw)
	}
	random := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- not a secret
	alphabet := `{}[]":,\ 019eserisgSIG-`
	scanned := 0
	for range 50_000 {
		raw := bytes.Clone(frames[random.IntN(len(frames))])
		if other := frames[random.IntN(len(frames))]; random.IntN(2) == 0 {
			from := random.IntN(len(other))
			piece := other[from : from+random.IntN(len(other)-from)]
			at := random.IntN(len(raw))
			raw = append(raw[:at:at], append(bytes.Clone(piece), raw[at:]...)...)
		} else {
			for range 1 + random.IntN(2) {
				raw[random.IntN(len(raw))] = alphabet[random.IntN(len(alphabet))]
			}
		}
		if wantSameAsDecoded(t, raw) {
			scanned++
		}
	}
	if scanned == 0 {
		t.Error("no altered frame was scanned")
	}
}

// FuzzScan looks for a frame in which scanning and decoding find different things.
func FuzzScan(f *testing.F) {
	for _, raw := range recordedFrames(f) {
		f.Add(raw)
	}
	for _, text := range oddFrames {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { wantSameAsDecoded(t, raw) })
}
