package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// The form of times in the log is zerolog's for the whole process: set before any
// goroutine logs.
func init() {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
}

// newLog writes to stderr, so that stdout is only a command's result.
func (c *config) newLog(stderr io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.logLevel)
	if err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, c.logLevel) {
		return zerolog.Nop(), fmt.Errorf("log.level: %q is unknown: want debug, info, warn or error", c.logLevel)
	}
	console := c.logFormat == "console" || c.logFormat == "" && isTerminal(stderr)
	if console {
		stderr = zerolog.ConsoleWriter{Out: logWriter{stderr, shapely}, TimeFormat: time.TimeOnly, NoColor: !isTerminal(stderr)}
	} else {
		stderr = logWriter{stderr, escapedJSON}
	}
	return zerolog.New(stderr).Level(level).With().Timestamp().Logger(), nil
}

// logWriter changes each line before it writes it.
type logWriter struct {
	to     io.Writer
	change func([]byte) []byte
}

func (w logWriter) Write(line []byte) (int, error) {
	if _, err := w.to.Write(w.change(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// shapely replaces characters without a shape in a line for a terminal, but for
// ASCII control characters, which are the line's own colours.
func shapely(line []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if unseen(r) && r >= 0x80 {
			return '·'
		}
		return r
	}, line)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
