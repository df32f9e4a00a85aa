package main

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

// json reports whether the caller wants machine-readable output.
func (p *program) json() bool { return p.output == "json" }

// printJSON writes one value on one line.
func (p *program) printJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.printLine(string(escapedJSON(text)))
}

func (p *program) printLine(line string) error {
	_, err := fmt.Fprintln(p.stdout, line)
	return err
}

// print writes v as JSON, or the text for people.
func (p *program) print(v any, text string) error {
	if p.json() {
		return p.printJSON(v)
	}
	return p.printLine(text)
}

// clockLayout is a time as people read it, with its zone: logs and the node's times are
// in UTC, and who compares them may sit elsewhere.
const clockLayout = "2006-01-02 15:04:05Z07:00"

func clock(t time.Time) string { return t.Local().Format(clockLayout) }

// printTable writes rows in columns that line up.
func (p *program) printTable(header string, rows [][]string) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, strings.ReplaceAll(header, ",", "\t")); err != nil {
		return err
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printable replaces what must not reach a terminal from outside: control characters,
// which move the cursor or break a line, and characters without a shape of their own
// (bidirectional controls, zero-width characters, fillers), by which a text can show
// something else than it says.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unseen(r) {
			return '·'
		}
		return r
	}, s)
}

func unseen(r rune) bool {
	switch {
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp, unicode.Variation_Selector):
		return true
	case r == '\u034f', r == '\u115f', r == '\u1160', r == '\u17b4', r == '\u17b5', r == '\u3164', r == '\uffa0':
		return true // a joiner without a shape, and fillers
	}
	return false
}

// escapedJSON writes such characters in JSON text as escapes, which is the same JSON.
func escapedJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r < 0x80 && r != 0x7f || !unseen(r):
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

// short is a session id or address as a person tells it from others.
func short(s string) string {
	if len(s) <= 13 {
		return s
	}
	return s[:8] + "…" + s[len(s)-4:]
}

// allocationText says who gets what on one line, leaving out what is 0.
func allocationText(allocations []settlement.Allocation) string {
	var parts []string
	for _, a := range allocations {
		if !a.Amount.IsZero() {
			parts = append(parts, fmt.Sprintf("%s %s %s", short(a.Participant), a.Amount, a.Asset))
		}
	}
	return strings.Join(parts, ", ")
}
