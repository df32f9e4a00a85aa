package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"settled/settlement"
)

// JSON reports whether the caller wants machine-readable output.
func (s *Streams) JSON() bool { return s.Format == "json" }

// PrintJSON writes one value on one line.
func (s *Streams) PrintJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.PrintLine(string(EscapeJSON(text)))
}

func (s *Streams) PrintLine(line string) error {
	_, err := fmt.Fprintln(s.Out, line)
	return err
}

// Print writes v as JSON, or the text for people.
func (s *Streams) Print(v any, text string) error {
	if s.JSON() {
		return s.PrintJSON(v)
	}
	return s.PrintLine(text)
}

// TimeLayout is a time as people read it, with its zone: logs and the node's times are
// in UTC, and their reader may be in another zone.
const TimeLayout = "2006-01-02 15:04:05Z07:00"

func FormatTime(t time.Time) string { return t.Local().Format(TimeLayout) }

// PrintTable writes rows in aligned columns.
func (s *Streams) PrintTable(header string, rows [][]string) error {
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, strings.ReplaceAll(header, ",", "\t")); err != nil {
		return err
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = Printable(cell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Printable replaces characters that foreign text must not print: control characters,
// which move the cursor or break a line, and invisible ones (bidirectional controls,
// zero-width characters, fillers), which make a text look like another one.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if IsInvisible(r) {
			return '·'
		}
		return r
	}, s)
}

func IsInvisible(r rune) bool {
	switch {
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp, unicode.Variation_Selector):
		return true
	case r == '\u034f', r == '\u115f', r == '\u1160', r == '\u17b4', r == '\u17b5', r == '\u3164', r == '\uffa0':
		return true // an invisible joiner, and fillers
	}
	return false
}

// EscapeJSON escapes such characters in JSON text.
func EscapeJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r < 0x80 && r != 0x7f || !IsInvisible(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.Bytes()
}

// Abbreviate is a session id or address as a person tells it from others.
func Abbreviate(s string) string {
	if len(s) <= 13 {
		return s
	}
	return s[:8] + "…" + s[len(s)-4:]
}

// AllocationText formats the allocations that aren't 0 on one line.
func AllocationText(allocations []settlement.Allocation) string {
	var parts []string
	for _, a := range allocations {
		if !a.Amount.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %s %s", Abbreviate(a.Participant), a.Amount, a.Asset))
		}
	}
	return strings.Join(parts, ", ")
}

// PrintableLines is Printable for a text of several lines.
func PrintableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = Printable(l)
	}
	return strings.Join(lines, "\n")
}
