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

// zerolog has the format of times as process-wide variables.
func init() {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
}

// NewLog returns a log that writes to stderr: stdout is for results.
func NewLog(c *config.Config, stderr io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.LogLevel)
	if err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		return zerolog.Nop(), fmt.Errorf("log.level: %q is unknown: want debug, info, warn or error", c.LogLevel)
	}
	console := c.LogFormat == "console" || c.LogFormat == "" && terminal.IsTerminal(stderr)
	if console {
		stderr = zerolog.ConsoleWriter{Out: logWriter{stderr, replaceInvisible}, TimeFormat: time.TimeOnly, NoColor: !terminal.IsTerminal(stderr)}
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

// replaceInvisible replaces invisible characters in a line for a terminal, except ASCII control
// characters, which are the line's own colours.
func replaceInvisible(line []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if terminal.IsInvisible(r) && r >= 0x80 {
			return '·'
		}
		return r
	}, line)
}
