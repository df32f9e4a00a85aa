package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
)

// shapeless are characters that a terminal obeys or does not show.
const shapeless = "\x1b\u0085\u200b\u200d\u202e\u2066\ufeff\u00ad\u2028\u061c\u3164\ufe0f\U000e0041"

// TestCharactersWithoutAShape: none of them reaches a terminal, as text, as JSON or in a
// log line; in JSON their value stays.
func TestCharactersWithoutAShape(t *testing.T) {
	foreign := "a" + shapeless + "é✓日"
	if got := terminal.Printable(foreign); got != "a"+strings.Repeat("·", len([]rune(shapeless)))+"é✓日" {
		t.Errorf("as text: %q", got)
	}
	var out bytes.Buffer
	p := terminal.New(nil, &out, nil)
	p.Format = "json"
	must(t, p.PrintJSON(foreign))
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != foreign {
		t.Errorf("as JSON: %q, %v", back, err)
	}
	for _, format := range []string{"json", "console"} {
		var log bytes.Buffer
		l, err := telemetry.NewLog((&config.Config{LogLevel: "info", LogFormat: format}), &log)
		must(t, err)
		l.Info().Str("id", foreign).Err(errors.New(foreign)).Msg(foreign[2:])
		out.Write(log.Bytes())
	}
	for _, r := range shapeless {
		if r >= 0x80 && strings.ContainsRune(out.String(), r) {
			t.Errorf("%U is written: %s", r, out.String())
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestResultThatCannotBeWritten: a command fails whose result is lost, whichever way it
// writes.
func TestResultThatCannotBeWritten(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}, {"config", "sample"}, {"config", "print"}, {"doctor", "--timeout", "1ms"}, {"help"}, {"serve", "--help"}} {
		var stderr bytes.Buffer
		if status := runChecked(t.Context(), args, strings.NewReader(""), fullDisk{}, &stderr); status != exitFailed {
			t.Errorf("%v: status %d, %s", args, status, stderr.String())
		}
	}
}
