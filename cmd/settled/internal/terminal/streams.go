package terminal

import (
	"cmp"
	"errors"
	"io"
	"os"
	"sync"
)

// Streams is where a command reads and writes, and in which format.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Format   string // of results: text or json
	result   *result
}

// New keeps the first error of writing to stdout.
func New(stdin io.Reader, stdout, stderr io.Writer) *Streams {
	result := &result{to: stdout}
	return &Streams{In: stdin, Out: result, Err: stderr, result: result}
}

// Failed is the first error of writing to stdout; nil where everything was written.
func (s *Streams) Failed() error { return s.result.failure() }

// result keeps the first error of writing a command's result, so that no command
// succeeds whose result was lost.
type result struct {
	to    io.Writer
	mu    sync.Mutex
	first error
}

func (w *result) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.first = cmp.Or(w.first, err)
	}
	return n, err
}

func (w *result) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// usage is an error in how a command was called.
type usage struct{ error }

// UsageError marks err as an error in how the command was called.
func UsageError(err error) error { return usage{err} }

// IsUsageError reports whether err, or an error it wraps, is one.
func IsUsageError(err error) bool {
	var wrong usage
	return errors.As(err, &wrong)
}

func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
