package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a program that is started, killed, paused and started again. Its
// output goes to one file, in the order of its lives.
type Process struct {
	Name string
	path string
	args []string
	env  []string
	Log  string

	mu    sync.Mutex
	life  *life    // nil: it was never started, or ended as we wished
	ended []string // how it ended without being told to
}

// life is a process from one start to its end.
type life struct {
	cmd    *exec.Cmd
	over   chan struct{} // closed when it ended
	state  string        // how, once over
	failed bool          // with another status than 0
	wanted bool          // we ended it; guarded by the process's mu
}

// New prepares a program; nothing runs yet. Its output goes to a file in dir.
func New(dir, name, path string, args, env []string) *Process {
	return &Process{Name: name, path: path, args: args, env: env, Log: filepath.Join(dir, name+".log")}
}

// Start starts it, unless it runs. It is called by one goroutine only, which keeps
// its thread: the process ends with that thread.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		return nil
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer func() { _ = out.Close() }()
	l := &life{cmd: exec.Command(p.path, p.args...), over: make(chan struct{})}
	l.cmd.Env, l.cmd.Stdout, l.cmd.Stderr = append(os.Environ(), p.env...), out, out
	l.cmd.SysProcAttr = childAttributes()
	if err := l.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.life = l
	go p.await(l)
	return nil
}

func (p *Process) await(l *life) {
	err := l.cmd.Wait()
	l.failed = err != nil
	l.state = l.cmd.ProcessState.String()
	p.mu.Lock()
	if !l.wanted {
		p.ended = append(p.ended, l.state+": "+lastLine(p.Log))
	}
	if p.life == l {
		p.life = nil
	}
	p.mu.Unlock()
	close(l.over)
}

// signal sends a signal to the running process; none where it doesn't run.
func (p *Process) signal(s syscall.Signal, last bool) *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.life
	if l == nil {
		return nil
	}
	l.wanted = l.wanted || last
	_ = l.cmd.Process.Signal(s) // one that just ended is awaited
	return l
}

// Pause stops it as SIGSTOP does, where the system can.
func (p *Process) Pause() { p.signal(pauseSignal, false) }

// Resume ends a pause.
func (p *Process) Resume() { p.signal(resumeSignal, false) }

// Kill ends it as kill -9 does, paused or not.
func (p *Process) Kill() {
	if l := p.signal(syscall.SIGKILL, true); l != nil {
		<-l.over
	}
}

// Stop asks it to end, and kills it where it doesn't within the time. The error
// says how it ended if not with status 0.
func (p *Process) Stop(within time.Duration) error {
	l := p.signal(syscall.SIGTERM, true)
	if l == nil {
		return nil
	}
	select {
	case <-l.over:
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.Name, within)
	}
	if l.failed {
		return fmt.Errorf("%s stopped with %s", p.Name, l.state)
	}
	return nil
}

// Running reports whether it runs, paused or not.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil
}

// Surprises are how it ended without being told to.
func (p *Process) Surprises() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.ended...)
}

// lastLine is the end of a log: what a process that ended by itself said last.
func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
