package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
)

// The form of times in the log is zerolog's for the whole process: set before any
// goroutine logs.
func init() {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
}

// NewLog writes to stderr, so that stdout is only a command's result.
func NewLog(c *config.Config, stderr io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.LogLevel)
	if err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		return zerolog.Nop(), fmt.Errorf("log.level: %q is unknown: want debug, info, warn or error", c.LogLevel)
	}
	console := c.LogFormat == "console" || c.LogFormat == "" && terminal.IsTerminal(stderr)
	if console {
		stderr = zerolog.ConsoleWriter{Out: logWriter{stderr, shapely}, TimeFormat: time.TimeOnly, NoColor: !terminal.IsTerminal(stderr)}
	} else {
		stderr = logWriter{stderr, terminal.EscapeJSON}
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
		if terminal.Invisible(r) && r >= 0x80 {
			return '·'
		}
		return r
	}, line)
}
