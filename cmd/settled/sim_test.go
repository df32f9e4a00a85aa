package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/sim"
)

// simProcess is a running `settled sim`.
type simProcess struct {
	simResult
	d    *deployment
	stop func()
}

// runSim starts `settled sim` with these arguments, until stop is called or the test ends.
func (d *deployment) runSim(args ...string) *simProcess {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr lockedBuffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"sim", "-o", "json"}, args...), strings.NewReader(""), in, &stderr)
		_ = in.Close()
	}()
	p := &simProcess{d: d}
	p.stop = func() {
		cancel()
		if status, running := <-done; running && status != exitDone {
			d.t.Errorf("sim %v: exit %d: %s", args, status, stderr.String())
		}
	}
	go func() { <-ctx.Done(); _, _ = io.Copy(io.Discard, out) }()
	d.t.Cleanup(cancel)
	if err := json.NewDecoder(out).Decode(&p.simResult); err != nil {
		p.stop()
		d.t.Fatalf("sim %v: %v: %s", args, err, stderr.String())
	}
	return p
}

// get reads an answer of the node's HTTP API.
func (p *simProcess) get(path string, v any) {
	p.d.t.Helper()
	p.d.must(callControl(p.d.t.Context(), http.MethodGet, p.Control, path, nil, v))
}

func (p *simProcess) open(args ...string) (opened []openedSession) {
	p.d.t.Helper()
	out := p.d.ok(append([]string{"sim", "open", "--control", p.Control, "-o", "json"}, args...)...)
	for line := range strings.Lines(out) {
		var s openedSession
		p.d.must(json.Unmarshal([]byte(line), &s))
		opened = append(opened, s)
	}
	return opened
}

// settle runs the printed command with --wait, and compares what the node paid.
func (p *simProcess) settle(s openedSession) {
	p.d.t.Helper()
	words := strings.Fields(s.Publish)[1:]
	var stdout, stderr bytes.Buffer
	if status := runChecked(p.d.t.Context(), append(words, "--wait=90s"), strings.NewReader(""), &stdout, &stderr); status != exitDone {
		p.d.t.Fatalf("%s: exit %d: %s", s.Publish, status, stderr.String())
	}
	var shown sim.SessionAnswer
	p.get("/sessions/"+string(s.SessionID), &shown)
	paid := clearnodetest.Allocation{}
	for _, a := range shown.Payouts {
		if !a.Amount.IsZero() {
			paid = a
		}
	}
	if shown.Status != "closed" || !strings.EqualFold(paid.Participant, s.Participants[1]) || paid.Amount.String() != s.Deposits[0].Amount.String() || len(shown.Signers) != 1 {
		p.d.t.Errorf("%+v", shown)
	}
	var books struct {
		OK         bool
		Violations []string
	}
	if p.get("/check", &books); !books.OK {
		p.d.t.Error(books.Violations)
	}
}

// TestSim is what an app developer does: open sessions at a simulated node by the command,
// settle them by the printed commands, with a restart of the node in between.
func TestSim(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro04, clearnodetest.NitronodeV1, clearnodetest.Legacy} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			d := deploy(t)
			args := []string{
				"--protocol", protocol, "--key-file", filepath.Join(d.dir, "sim.key"), "--state", filepath.Join(d.dir, "sim.json"),
				"--message-expiry", testExpiry.String(), "--control", "127.0.0.1:0", "--listen",
			}
			node := d.runSim(append(args, "127.0.0.1:0")...)
			d.cfg.NodeURL, d.cfg.NodeAddress, d.cfg.NodeProtocol = node.URL, node.Address, protocol
			d.serve()
			mine := []string{"--clearnode.key_files", filepath.Join(d.dir, "judge.key")}
			bob := addressOf(d.players[1])
			sessions := node.open(append(mine, "--sessions", "2")...)
			sessions = append(sessions, node.open("--judge", addressOf(d.judge), "--player", addressOf(d.players[0]), "--player", bob, "--deposit", "usdc=2.5")...)
			if len(sessions) != 3 || sessions[2].Participants[1] != bob || sessions[2].Deposits[0].Amount.String() != "2.5" {
				t.Fatalf("%+v", sessions)
			}
			node.settle(sessions[0])

			url := node.URL
			node.stop()
			node = d.runSim(append(args, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws"))...)
			if node.URL != url || node.Address != d.cfg.NodeAddress {
				t.Errorf("%+v after a restart", node.simResult)
			}
			for _, s := range sessions[1:] {
				node.settle(s)
			}
			if n := len(d.letters()); n != 0 {
				t.Errorf("%d dead letters", n)
			}
			node.stop()
		})
	}
}

// TestSimOpensAtItsStart: --sessions opens before anybody connects; and what can't be opened
// is refused with what to do.
func TestSimOpensAtItsStart(t *testing.T) {
	d := deploy(t)
	judge := addressOf(d.judge)
	node := d.runSim("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--sessions", "3", "--judge", judge, "--fault", "lose-answer=0%", "--seed", "7")
	var list sim.SessionList
	node.get("/sessions?status=open", &list)
	if len(list.Sessions) != 3 {
		t.Errorf("%d sessions", len(list.Sessions))
	}
	if out := d.ok("sim", "open", "--control", node.Control, "--judge", judge); !strings.Contains(out, " publish payment_completed --session 0x") || !strings.Contains(out, "--nats.url=") {
		t.Error(out)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"sim open --judge 0x12", exitFailed, "address"},
		{"sim open --judge " + judge + " --deposit 3:usdc=1", exitMisused, "with PLAYER 1 to 2"},
		{"sim open --judge " + judge + " --deposit usdc=1e3", exitMisused, "--deposit"},
		{"sim open --judge " + judge + " --deposit usdx=1", exitFailed, "the node has usdc and weth"},
		{"sim open --judge " + judge + " --sessions 0", exitMisused, "1 or more"},
		{"sim open --clearnode.key_files " + filepath.Join(d.dir, "none.key"), exitFailed, "Give --judge"},
		{"sim --listen 127.0.0.1:0 --fault refuze=1%", exitMisused, `did you mean "refuse"`},
		{"sim --listen 127.0.0.1:0 --control 0.0.0.0:8001", exitMisused, "loopback"},
	} {
		args := strings.Fields(c.args)
		if args[1] == "open" {
			args = append(args, "--control", node.Control)
		}
		if status, _, stderr := d.command(args...); status != c.status || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, status, stderr)
		}
	}
	node.stop()
	if status, _, stderr := d.command("sim", "open", "--judge", judge, "--control", node.Control); status != exitFailed || !strings.Contains(stderr, "start `settled sim --control") {
		t.Errorf("without a node: exit %d, %s", status, stderr)
	}
}
