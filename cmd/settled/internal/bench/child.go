package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process of this program that a measurement started.
type child struct {
	name   string
	cmd    *exec.Cmd
	log    string        // file with its standard error
	exited chan struct{} // closed when it has ended
	rpc    *rpc.Client   // of a helper
}

// newChild prepares a process of this program. Its log is a file in dir.
func newChild(dir, name string, args ...string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, log: filepath.Join(dir, name+".log"), exited: make(chan struct{}), cmd: exec.Command(program, args...)} // #nosec G204 -- this program
	c.cmd.SysProcAttr = childAttributes()
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SETTLED_") { // the measurement has a configuration of its own
			c.cmd.Env = append(c.cmd.Env, variable)
		}
	}
	return c, nil
}

func (c *child) start() error {
	log, err := os.Create(c.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	return nil
}

// pipes are the two ends that a helper is called by.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// startHelper starts a child that serves calls (ServeChild), and calls its method Start.
func startHelper(ctx context.Context, dir, kind string, args, result any) (*child, error) {
	c, err := newChild(dir, kind, "bench", "child", kind)
	if err != nil {
		return nil, err
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe, which Wait closes, perhaps before the last answer is read.
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout = to
	err = c.start()
	_ = to.Close()
	if err != nil {
		_ = from.Close()
		return nil, err
	}
	c.rpc = jsonrpc.NewClient(pipes{from, in})
	return c, c.call(ctx, "Start", args, result)
}

// ServeChild is the main function of a helper: it serves calls until its input ends.
func ServeChild(kind string, in io.Reader, out io.WriteCloser) error {
	helpers := map[string]any{"node": &Node{}, "nats": &NATS{}, "bare": &Bare{}}
	if helpers[kind] == nil {
		return fmt.Errorf("bench has no helper %q", kind)
	}
	server := rpc.NewServer()
	if err := server.RegisterName("Helper", helpers[kind]); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(pipes{in, out}))
	return nil
}

// call calls a method of a helper. When ctx ends first, its error is returned.
func (c *child) call(ctx context.Context, method string, args, result any) error {
	call := c.rpc.Go("Helper."+method, args, result, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if call.Error != nil {
		return errors.Join(fmt.Errorf("%s: %s: %w", c.name, method, call.Error), c.ended())
	}
	return nil
}

// stop ends the process: a helper by its input, settled by SIGTERM, and both are killed if
// that takes too long.
func (c *child) stop() {
	if c == nil || c.cmd.Process == nil {
		return
	}
	if c.rpc != nil {
		_ = c.rpc.Close()
	} else {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-c.exited:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// ended says how a process ended, with the last line of its log; nil while it runs.
func (c *child) ended() error {
	select {
	case <-c.exited:
	default:
		return nil
	}
	text, _ := os.ReadFile(c.log)
	text = bytes.TrimSpace(text)
	return fmt.Errorf("%s ended (%s): %s", c.name, c.cmd.ProcessState, text[bytes.LastIndexByte(text, '\n')+1:])
}

// usageOf returns the processor time, in seconds, and the peak resident memory, in bytes, of
// a process, if the system tells by /proc.
func usageOf(pid int) (cpu float64, peak int64, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || statusErr != nil {
		return 0, 0, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third, the state, on
	if len(fields) < 13 {
		return 0, 0, false
	}
	const ticks = 100 // a second, in this file of Linux
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		cpu += float64(n) / ticks
	}
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	_, _ = fmt.Sscan(string(after), &peak) // in kB
	return cpu, peak << 10, true
}
