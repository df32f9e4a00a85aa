package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

func sleeper(t *testing.T, script string) *Process {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh here")
	}
	p := New(t.TempDir(), "sleeper", sh, []string{"-c", script}, nil)
	t.Cleanup(p.Kill)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// await looks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func logged(p *Process) string {
	text, _ := os.ReadFile(p.Log)
	return string(text)
}

func TestProcessIsKilledAndStartedAgain(t *testing.T) {
	p := sleeper(t, "echo up; exec sleep 1000")
	await(t, "it is up", func() bool { return strings.Count(logged(p), "up") == 1 })
	p.Pause()
	p.Kill()
	if p.Running() {
		t.Error("it runs after kill -9")
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "it is up again", func() bool { return strings.Count(logged(p), "up") == 2 })
	if got := p.Surprises(); len(got) > 0 {
		t.Errorf("what we ended counts as a surprise: %v", got)
	}
}

func TestProcessStops(t *testing.T) {
	p := sleeper(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done")
	await(t, "it is up", func() bool { return strings.Contains(logged(p), "up") })
	if err := p.Stop(patience); err != nil || p.Running() {
		t.Errorf("stop: %v", err)
	}
	p = sleeper(t, "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done")
	await(t, "it is up", func() bool { return strings.Contains(logged(p), "up") })
	if err := p.Stop(patience); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("stop: %v, want its status", err)
	}
	p = sleeper(t, "trap '' TERM; echo up; while :; do sleep 0.02; done")
	await(t, "it is up", func() bool { return strings.Contains(logged(p), "up") })
	if err := p.Stop(50 * time.Millisecond); err == nil || p.Running() {
		t.Errorf("stop: %v, want that it did not, and that it is gone", err)
	}
}

func TestProcessEndsByItself(t *testing.T) {
	p := sleeper(t, "echo one; echo because; exit 4")
	await(t, "it ended", func() bool { return !p.Running() })
	if got := p.Surprises(); len(got) != 1 || got[0] != "exit status 4: because" {
		t.Errorf("surprises %v", got)
	}
}
