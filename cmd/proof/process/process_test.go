package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

func startScript(t *testing.T, script string) *Process {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("this system has no sh")
	}
	p := New(t.TempDir(), "script", sh, []string{"-c", script}, nil)
	t.Cleanup(p.Kill)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func waitUntilUp(t *testing.T, p *Process, starts int) {
	t.Helper()
	waitUntil(t, "the script is up", func() bool {
		text, _ := os.ReadFile(p.log)
		return strings.Count(string(text), "up") == starts
	})
}

func running(p *Process) bool { return p.signal(0, false) != nil }

func TestKillAndRestart(t *testing.T) {
	p := startScript(t, "echo up; exec sleep 1000")
	waitUntilUp(t, p, 1)
	p.Pause()
	p.Kill()
	if running(p) {
		t.Error("the process runs after Kill")
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntilUp(t, p, 2)
	if got := p.UnsolicitedExits(); len(got) > 0 {
		t.Errorf("a kill counts as an unsolicited exit: %v", got)
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		onTERM string
		within time.Duration
		want   string // in the error; empty: none
	}{
		{"exit 0", patience, ""},
		{"exit 3", patience, "exit status 3"},
		{"", 50 * time.Millisecond, "did not stop"},
	} {
		p := startScript(t, "trap '"+c.onTERM+"' TERM; echo up; while :; do sleep 0.02; done")
		waitUntilUp(t, p, 1)
		err := p.Stop(c.within)
		if running(p) || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("trap %q: running %t, error %v, want %q", c.onTERM, running(p), err, c.want)
		}
	}
}

func TestUnsolicitedExitAndPanics(t *testing.T) {
	p := startScript(t, "echo one; echo panic: nil; echo because; exit 4")
	waitUntil(t, "the script has ended", func() bool { return !running(p) })
	if got := p.UnsolicitedExits(); len(got) != 1 || got[0] != "exit status 4: because" {
		t.Errorf("unsolicited exits: %q", got)
	}
	if got := p.Panics(); len(got) != 1 || got[0] != "script: panic: nil" {
		t.Errorf("panics: %q", got)
	}
}
