package terminal

import (
	"cmp"
	"errors"
	"io"
	"os"
	"sync"
)

// Streams are where a command reads and writes, and in which format.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Format   string // of results: text or json
	result   *resultWriter
}

// New keeps the first error of writing to stdout.
func New(stdin io.Reader, stdout, stderr io.Writer) *Streams {
	result := &resultWriter{to: stdout}
	return &Streams{In: stdin, Out: result, Err: stderr, result: result}
}

// WriteError is the first error of writing to stdout; nil where everything was written.
func (s *Streams) WriteError() error { return s.result.failure() }

// resultWriter keeps the first error of writing a command's result, so that a command
// fails if its result is lost.
type resultWriter struct {
	to    io.Writer
	mu    sync.Mutex
	first error
}

func (w *resultWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.first = cmp.Or(w.first, err)
	}
	return n, err
}

func (w *resultWriter) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// usageError is an error in how a command was called.
type usageError struct{ error }

// UsageError marks err as an error in how the command was called.
func UsageError(err error) error { return usageError{err} }

// IsUsageError reports whether err, or an error it wraps, is one.
func IsUsageError(err error) bool {
	var wrong usageError
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
