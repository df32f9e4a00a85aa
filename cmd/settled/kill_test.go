package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"settled/settlement"
)

// serveProcess runs `settled serve` as a process of its own.
func (d *deployment) serveProcess(name string) *exec.Cmd {
	d.t.Helper()
	config := fmt.Sprintf(`
nats: {url: %q}
clearnode:
  url: %q
  key_files: [%q]
  message_expiry: %s
  request_validity: %s
  fence_margin: %s
  connections: 2
  rate_limit: 1000
  rate_burst: 1000
consumer: {ack_wait: 3s}
http: {listen: "127.0.0.1:0"}
log: {level: warn}
`, d.cfg.NATSURL, d.cfg.NodeURL, d.cfg.NodeKeyFiles[0], testExpiry, testValidity, testMargin)
	file := filepath.Join(d.dir, name+".yaml")
	d.must(os.WriteFile(file, []byte(config), 0o600))
	self, err := os.Executable()
	d.must(err)
	cmd := exec.Command(self, "serve", "--config", file)
	cmd.Env = append(os.Environ(), runAsSettled+"=1")
	cmd.Stderr = os.Stderr
	d.must(cmd.Start())
	return cmd
}

// kill -9 of either of two replicas at any moment: every session gets its result,
// none is paid twice, and no two closes of one are ever in flight.
func TestKillNine(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	names := []string{"a", "b"}
	processes := make([]*exec.Cmd, len(names))
	for i, name := range names {
		processes[i] = d.serveProcess(name)
	}
	t.Cleanup(func() {
		for _, p := range processes {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sequences := map[settlement.SessionID]uint64{}
	d.until("there is a stream of outcomes", func() bool { _, err := d.nats.JS.Stream(t.Context(), "OUTCOMES"); return err == nil })
	for round := range 12 {
		for i := range 8 {
			session := d.open()
			sequences[session] = d.publish("partial_service", fmt.Sprint(round, "-", i), session, d.partial())
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // the moment is drawn, not awaited
		i := random.IntN(len(names))
		d.must(processes[i].Process.Kill())
		_ = processes[i].Wait()
		processes[i] = d.serveProcess(names[i])
	}
	for session, sequence := range sequences {
		d.wantClosed(session, sequence)
		d.checkFence(session, true)
	}
	if letters := d.letters(); len(letters) != 0 {
		t.Errorf("%d dead letters: %+v", len(letters), letters[0])
	}
	d.verify(len(sequences))
}
