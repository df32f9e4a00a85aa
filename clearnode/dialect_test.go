package clearnode_test

import (
	"strings"
	"testing"

	"settled/settlement"
)

// Frames by which each generation answered a ping with an empty list for params,
// before anybody signed in (recorded; the signatures left out, nobody looks at them
// here).
const (
	legacyPing = `{"res":[1795309304279,"error",[{"error":"Authentication required. Please send auth_request first."}],1795309304279],"sig":["0x41"]}`
	v1Ping     = `[4,0,"",{"error":"invalid message format"},1795309409501]`
)

// TestIdentify: what a node is found to be, whatever comes before the answer. One
// that isn't as configured is named, and never sent anything else.
func TestIdentify(t *testing.T) {
	greeting := `{"res":[0,"assets",{"assets":[]},1795309404911],"sig":["0x41"]}`
	for _, tc := range []struct {
		it, configured, says string
		frames               []string
	}{
		{"legacy", "nitrorpc/0.4", "speaks nitrorpc/legacy and not nitrorpc/0.4", []string{legacyPing}},
		{"v1", "nitrorpc/0.4", "speaks nitronode/v1 and not nitrorpc/0.4", []string{v1Ping}},
		{"0.5.2", "nitronode/v1", "speaks nitrorpc/0.4 and not nitronode/v1", nil},
		{"0.5.2 as legacy", "nitrorpc/legacy", "speaks nitrorpc/0.4 and not nitrorpc/legacy", nil},
		{"after strays", "nitrorpc/0.4", "speaks nitronode/v1", []string{greeting, "", "garbage", `{"res":[7]}`, `{"res":[1,2,3,4]}`, `[]`, `null`, v1Ping}},
		{"after strays of v1's shape", "nitrorpc/0.4", "speaks nitrorpc/legacy and not nitrorpc/0.4", []string{`[2,7,"x",{},1]`, `[3,0,"x",{},1]`, `[4,7,"",{"error":"x"},1]`, `[1,2,3,4,5]`, legacyPing}},
		{"nothing but strays", "auto", "does not say which protocol", strays(200, greeting)},
		{"garbage", "auto", "does not say which protocol", strays(200, strings.Repeat("[", 10_000))},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startRaw(t)
			if tc.frames != nil {
				n.on("ping", func(c *rawConn, _ rawRequest) {
					for _, f := range tc.frames {
						c.send(f)
					}
				})
			}
			cfg := config(n.url)
			cfg.Protocol = tc.configured
			c := run(t, cfg)
			waitReason(t, c, tc.says)
		})
	}
}

func strays(n int, frame string) []string {
	frames := make([]string, n)
	for i := range frames {
		frames[i] = frame
	}
	return frames
}

// TestIdentifyHolds: what was found out is held. A node that is replaced by one of
// another generation is not spoken to.
func TestIdentifyHolds(t *testing.T) {
	n := startRaw(t)
	cfg := config(n.url)
	cfg.Protocol = "auto"
	c := ready(t, cfg)
	n.on("ping", func(c *rawConn, _ rawRequest) { c.send(v1Ping) })
	n.drop()
	waitReason(t, c, "start settled again where the node was replaced")
	if _, err := c.Session(t.Context(), "0x00", settlement.ReadOptions{}); err == nil {
		t.Error("a session was read")
	}
}
