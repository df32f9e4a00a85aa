// Package process builds settled and nats-server from this tree and runs them as
// processes, for the programs that test settled as it is deployed.
//
//  1. It signals only processes that it started.
//  2. On Linux they end with the thread that started them, so that a runner that
//     dies leaves no process behind.
package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that can be started, paused, killed and started again. Its
// output is appended to one log file.
type Process struct {
	Name string
	path string
	args []string
	env  []string
	log  string

	mu          sync.Mutex
	execution   *execution // nil: it doesn't run
	unsolicited []string
}

// execution is the process from one start to its exit.
type execution struct {
	cmd       *exec.Cmd
	exited    chan struct{} // closed on exit
	state     string        // exit status; valid after exit
	failed    bool          // exit status other than 0; valid after exit
	requested bool          // Kill or Stop was called; guarded by the process's mu
}

// New prepares a program without starting it. Its log is a file in dir.
func New(dir, name, path string, args, env []string) *Process {
	return &Process{Name: name, path: path, args: args, env: env, log: filepath.Join(dir, name+".log")}
}

// Start starts the program unless it runs. The process ends with the calling thread.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.execution != nil {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer func() { _ = out.Close() }()
	e := &execution{cmd: exec.Command(p.path, p.args...), exited: make(chan struct{})}
	e.cmd.Env, e.cmd.Stdout, e.cmd.Stderr = append(os.Environ(), p.env...), out, out
	e.cmd.SysProcAttr = childAttributes()
	if err := e.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.execution = e
	go p.wait(e)
	return nil
}

func (p *Process) wait(e *execution) {
	e.failed = e.cmd.Wait() != nil
	e.state = e.cmd.ProcessState.String()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.requested {
		p.unsolicited = append(p.unsolicited, e.state+": "+p.lastLogLine())
	}
	p.execution = nil
	close(e.exited)
}

// signal sends a signal if the process runs, and returns its execution or nil.
func (p *Process) signal(s syscall.Signal, end bool) *execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.execution
	if e != nil {
		e.requested = e.requested || end
		_ = e.cmd.Process.Signal(s) // it may have just exited
	}
	return e
}

// Pause sends SIGSTOP.
func (p *Process) Pause() { p.signal(pauseSignal, false) }

// Resume sends SIGCONT.
func (p *Process) Resume() { p.signal(resumeSignal, false) }

// Kill sends SIGKILL and waits for the exit. It works on a paused process too.
func (p *Process) Kill() {
	if e := p.signal(syscall.SIGKILL, true); e != nil {
		<-e.exited
	}
}

// Stop sends SIGTERM, and kills the process unless it exits within the time. It
// fails if the process was killed or if its exit status isn't 0.
func (p *Process) Stop(within time.Duration) error {
	e := p.signal(syscall.SIGTERM, true)
	if e == nil {
		return nil
	}
	select {
	case <-e.exited:
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.Name, within)
	}
	if e.failed {
		return fmt.Errorf("%s stopped with %s", p.Name, e.state)
	}
	return nil
}

// UnsolicitedExits describes each exit that neither Kill nor Stop requested.
func (p *Process) UnsolicitedExits() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.unsolicited...)
}

// Panics returns the lines of the log that report a panic or a fatal error.
func (p *Process) Panics() []string {
	f, err := os.Open(p.log)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var panics []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := lines.Text(); strings.Contains(line, "panic") || strings.HasPrefix(line, "fatal error:") {
			panics = append(panics, p.Name+": "+line)
		}
	}
	return panics
}

func (p *Process) lastLogLine() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
