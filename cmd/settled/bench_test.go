package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
)

// benchReport is what is read of the output of `settled bench`.
type benchReport struct {
	Options      struct{ Protocol string }
	Measurements []struct {
		Arm           string
		OpenLoop      bool `json:"open_loop"`
		Round         int
		Settlements   int
		PerSettlement map[string]float64                    `json:"per_settlement"`
		Latency       map[string]struct{ P50, P99 float64 } `json:"latency_ms"`
	}
	PerSecond []benchSpread `json:"per_second"`
	Ratios    []benchSpread
	Caveats   []string
}

type benchSpread struct {
	Name             string
	Min, Median, Max float64
}

// runBench runs `settled bench` with its processes, and returns its status and outputs.
func runBench(ctx context.Context, t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	t.Setenv(runAsSettled, "1")
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	status = runChecked(ctx, append([]string{"bench", "-o", "json"}, args...), strings.NewReader(""), &stdout, &stderr)
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "settled-bench-*")); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
	for _, process := range benchChildren(t) {
		t.Errorf("a process is left behind: %s", process)
	}
	return status, stdout.String(), stderr.String()
}

// benchChildren are the processes that bench has started here and that still run, where the
// system tells.
func benchChildren(t *testing.T) (all []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		stat, _ := os.ReadFile(file)
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		var parent int
		_, _ = fmt.Sscan(rest, &state, &parent)
		if parent == os.Getpid() && (bytes.Contains(command, []byte("bench\x00child")) || bytes.Contains(command, []byte("settled-bench-"))) {
			all = append(all, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return all
}

func parseBench(t *testing.T, out string) (r benchReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return r
}

// A run of each generation measures every arm, and each settlement costs the requests that
// it must cost.
func TestBench(t *testing.T) {
	for protocol, counts := range map[string]struct {
		close           string
		closes, atLeast float64 // requests of a settlement: that close, and with the reads
		signed          bool    // the node signs its answers
	}{
		clearnodetest.Nitro04:     {"close_app_session", 1, 3, true},
		clearnodetest.Legacy:      {"close_app_session", 1, 4, true},
		clearnodetest.NitronodeV1: {"app_sessions.v1.submit_app_state", 2, 3, false},
	} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			plot := filepath.Join(t.TempDir(), "bench.svg")
			status, out, errs := runBench(t.Context(), t, "--protocol", protocol, "--rounds", "1", "--settlements", "20", "--open-loop", "200ms", "--rate", "20",
				"--node-rate", "1000", "--node-delay-close", "1ms", "--plot", plot)
			if status != exitDone {
				t.Fatalf("status %d: %s", status, errs)
			}
			r := parseBench(t, out)
			if r.Options.Protocol != protocol || len(r.Measurements) != 7 || len(r.PerSecond) != 5 || len(r.Ratios) < 6 || len(r.Caveats) == 0 {
				t.Fatalf("report %+v", r)
			}
			for _, m := range r.Measurements {
				got := m.PerSettlement
				requests, closes := got["requests to the node"], got["requests to the node: "+counts.close]
				want := counts.atLeast
				switch {
				case m.OpenLoop:
					if l := m.Latency["due to closed"]; l.P50 <= 0 || l.P99 < l.P50 {
						t.Errorf("%s: latencies %+v", m.Arm, m.Latency)
					}
				case m.Arm == "raw" || m.Arm == "script":
					want = counts.closes
				}
				exact := m.Arm != "settled" // which also pings, and reads more than it must
				if closes != counts.closes || requests < want || exact && requests != want {
					t.Errorf("%s: %g requests, %g of them close; want %g and %g", m.Arm, requests, closes, want, counts.closes)
				}
				if exact && got["signatures"] != counts.closes {
					t.Errorf("%s: %g signatures, want %g", m.Arm, got["signatures"], counts.closes)
				}
				if recovers := got["recovers"]; m.Arm == "bare" && (recovers == counts.atLeast) != counts.signed {
					t.Errorf("%g recovers", recovers)
				}
				if m.Arm == "settled" && got["messages to NATS: settled"] < 4 {
					t.Errorf("%+v: want a read, two appends and an acknowledgement at least", got)
				}
			}
			if share := strings.Contains(out, "share of the node's rate limit: settled"); share != (protocol == clearnodetest.NitronodeV1) {
				t.Errorf("the share of a rate limit is reported: %t", share)
			}
			for _, rate := range append(r.PerSecond, r.Ratios...) {
				if rate.Min > rate.Median || rate.Median > rate.Max {
					t.Errorf("spread %+v", rate)
				}
			}
			var svg struct {
				Text []string `xml:"text"`
			}
			if text, err := os.ReadFile(plot); err != nil || xml.Unmarshal(text, &svg) != nil || len(svg.Text) < 20 {
				t.Errorf("plot %s, %v", text, err)
			}
		})
	}
}

// TestBenchInterrupted: Ctrl-C leaves no process and no directory behind.
func TestBenchInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() { // while settled runs, or what follows it
		for ctx.Err() == nil {
			for _, process := range benchChildren(t) {
				if strings.Contains(process, " serve ") {
					interrupt()
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	status, out, errs := runBench(ctx, t, "--settlements", "600", "--rounds", "1")
	if status != exitFailed || out != "" || !strings.Contains(errs, "interrupted") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// forgeEntries stores on the subjects of the sessions for which an outcome is published an
// entry by which they paid something else.
func forgeEntries(t *testing.T, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	_, err = nc.Subscribe("*.outcome.*", func(m *nats.Msg) {
		prefix, _, _ := strings.Cut(m.Subject, ".")
		var event struct {
			Data struct {
				Session string `json:"session_id"`
				Parties struct{ Provider string }
			}
		}
		if err := json.Unmarshal(m.Data, &event); err != nil {
			t.Error(err)
		}
		session := event.Data.Session
		_ = nc.Publish(prefix+".settlement.closed."+session, fmt.Appendf(nil, `{"data":{"session_id":%q,"allocations":[{"participant":%q,"asset":"usdc","amount":"9"}]}}`, session, event.Data.Parties.Provider))
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBenchWrongEntry: an entry of the ledger that says another payout than is due ends the
// run, and the streams on a given server are deleted.
func TestBenchWrongEntry(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("no server")
	}
	forgeEntries(t, ns.ClientURL())
	status, out, errs := runBench(t.Context(), t, "--settlements", "2", "--rounds", "1", "--open-loop", "0s", "--nats", ns.ClientURL())
	if status != exitFailed || out != "" || !strings.Contains(errs, "WRONG PAYOUT") || !strings.Contains(errs, "must pay") || !strings.Contains(errs, "says 9") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	if z, err := ns.Jsz(nil); err != nil || z.Streams != 0 {
		t.Errorf("%d streams are left, %v", z.Streams, err)
	}
}

// givenNode is the node of --node, with the sessions of --sessions.
type givenNode struct {
	*clearnodetest.Node
	file, provider string
}

func startGivenNode(t *testing.T, sessions int, cfg clearnodetest.Config, outcome func(provider string) map[string]any) *givenNode {
	t.Helper()
	cfg.Protocol, cfg.Faucet = clearnodetest.Nitro04, decimal.NewFromInt(1_000_000)
	node, err := clearnodetest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "judge.key")
	if err := crypto.SaveECDSA(keyFile, key); err != nil {
		t.Fatal(err)
	}
	g := &givenNode{Node: node, file: filepath.Join(dir, "sessions.json"), provider: "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"}
	funder := "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	var rows []map[string]any
	for i := range sessions {
		id, err := node.OpenSession(clearnodetest.Definition{
			Application: "bench", Protocol: "NitroRPC/0.4", Participants: []string{funder, g.provider, crypto.PubkeyToAddress(key.PublicKey).Hex()},
			Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: uint64(i + 1), // #nosec G115 -- small
		}, []clearnodetest.Allocation{{Participant: funder, Asset: "usdc", Amount: decimal.NewFromInt(10)}})
		if err != nil {
			t.Fatal(err)
		}
		data := outcome(g.provider)
		data["session_id"] = id
		rows = append(rows, map[string]any{"session_id": id, "outcome": data, "pays": []map[string]string{
			{"participant": funder, "asset": "usdc", "amount": "0"}, {"participant": g.provider, "asset": "usdc", "amount": "10"},
		}})
	}
	text, err := json.Marshal(map[string]any{"key_file": keyFile, "sessions": rows})
	if err != nil {
		t.Fatal(err)
	}
	write(t, g.file, string(text))
	return g
}

func paidTo(provider string) map[string]any {
	return map[string]any{"parties": map[string]string{"provider": provider}}
}

// A run at a given node measures as many sessions as the file has.
func TestBenchGivenNode(t *testing.T) {
	const arms = 5
	g := startGivenNode(t, 3*arms, clearnodetest.Config{}, paidTo)
	status, out, errs := runBench(t.Context(), t, "--node", g.URL(), "--sessions", g.file, "--protocol", clearnodetest.Nitro04, "--rounds", "1", "--open-loop", "0s")
	if status != exitDone {
		t.Fatalf("status %d: %s", status, errs)
	}
	r := parseBench(t, out)
	if len(r.Measurements) != arms {
		t.Fatalf("report %+v", r)
	}
	for _, m := range r.Measurements {
		if want := map[bool]int{true: 1, false: 2}[m.Arm == "script"]; m.Settlements != want {
			t.Errorf("%s: %d settlements, want %d", m.Arm, m.Settlements, want)
		}
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
}

// TestBenchWrongPayout: a node that paid something else than is due ends the run, even if
// its answer and the ledger say nothing of it.
func TestBenchWrongPayout(t *testing.T) {
	var g *givenNode
	tamper := func(session string) (string, any) {
		if err := g.Tamper(session, g.provider, "usdc", decimal.NewFromInt(11)); err != nil {
			t.Error(err)
		}
		return "close_app_session", map[string]any{"app_session_id": session, "status": "closed"}
	}
	g = startGivenNode(t, 10, clearnodetest.Config{CloseAnswer: tamper}, paidTo)
	status, out, errs := runBench(t.Context(), t, "--node", g.URL(), "--sessions", g.file, "--rounds", "1", "--open-loop", "0s")
	if status != exitFailed || out != "" || !strings.Contains(errs, "round 1, raw: WRONG PAYOUT") || !strings.Contains(errs, "the node paid 11") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// TestBenchMissingPayout: an outcome that fails ends the run.
func TestBenchMissingPayout(t *testing.T) {
	g := startGivenNode(t, 10, clearnodetest.Config{}, func(string) map[string]any { return paidTo("0x00000000000000000000000000000000000000AA") })
	status, out, errs := runBench(t.Context(), t, "--node", g.URL(), "--sessions", g.file, "--rounds", "1", "--open-loop", "0s")
	if status != exitFailed || out != "" || !strings.Contains(errs, "round 1, settled: WRONG RESULT") || !strings.Contains(errs, "failed with not_a_participant") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

func TestBenchUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--rounds", "0"}, {"--connections", "0"}, {"--in-flight", "-1"}, {"--rate", "NaN"}, {"--open-loop", "-1s"}, {"--node", "ws://127.0.0.1:1/ws"},
		{"--sessions", "none"}, {"--protocol", "other"}, {"child"}, {"more"},
	} {
		if status, out, _ := runBench(t.Context(), t, args...); status != exitMisused || out != "" {
			t.Errorf("%v: status %d, %s", args, status, out)
		}
	}
}
