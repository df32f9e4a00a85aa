package main

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

// process is a program that is started, killed, paused and started again. Its
// output goes to one file, in the order of its lives.
type process struct {
	name string
	path string
	args []string
	env  []string
	log  string

	mu     sync.Mutex
	life   *life // nil: it was never started, or ended as we wished
	starts int
	ended  []string // how it ended without being told to

	noticed int // how many of these the supervisor has seen; its goroutine's own
}

// life is a process from one start to its end.
type life struct {
	cmd    *exec.Cmd
	over   chan struct{} // closed when it ended
	state  string        // how, once over
	failed bool          // with another status than 0
	wanted bool          // we ended it; guarded by the process's mu
}

func newProcess(dir, name, path string, args, env []string) *process {
	return &process{name: name, path: path, args: args, env: env, log: filepath.Join(dir, name+".log")}
}

// start starts it, unless it runs. It is called by one goroutine only, which keeps
// its thread: the process ends with that thread.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer func() { _ = out.Close() }()
	l := &life{cmd: exec.Command(p.path, p.args...), over: make(chan struct{})}
	l.cmd.Env, l.cmd.Stdout, l.cmd.Stderr = append(os.Environ(), p.env...), out, out
	l.cmd.SysProcAttr = childAttributes()
	if err := l.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.life = l
	p.starts++
	go p.await(l)
	return nil
}

func (p *process) await(l *life) {
	err := l.cmd.Wait()
	l.failed = err != nil
	l.state = l.cmd.ProcessState.String()
	p.mu.Lock()
	if !l.wanted {
		p.ended = append(p.ended, l.state+": "+lastLine(p.log))
	}
	if p.life == l {
		p.life = nil
	}
	p.mu.Unlock()
	close(l.over)
}

// signal sends a signal to the running process; none where it doesn't run.
func (p *process) signal(s syscall.Signal, last bool) *life {
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

func (p *process) pause()  { p.signal(pauseSignal, false) }
func (p *process) resume() { p.signal(resumeSignal, false) }

// kill ends it as kill -9 does, paused or not.
func (p *process) kill() {
	if l := p.signal(syscall.SIGKILL, true); l != nil {
		<-l.over
	}
}

// stop asks it to end, and kills it where it doesn't within the time. The error
// says how it ended if not with status 0.
func (p *process) stop(within time.Duration) error {
	l := p.signal(syscall.SIGTERM, true)
	if l == nil {
		return nil
	}
	select {
	case <-l.over:
	case <-time.After(within):
		p.kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.name, within)
	}
	if l.failed {
		return fmt.Errorf("%s stopped with %s", p.name, l.state)
	}
	return nil
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil
}

// surprises are how it ended without being told to.
func (p *process) surprises() []string {
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
