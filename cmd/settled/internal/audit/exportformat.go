package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
)

// ExportRow is one row of an export: what one participant gets of one asset by one entry.
// An entry without allocations, such as a failed one, has one row. The members are the
// columns in their order; new ones are added at the end.
type ExportRow struct {
	Sequence        uint64 `json:"sequence"`         // of the entry in the ledger
	Row             int    `json:"row"`              // 1-based index in its entry
	Time            string `json:"time"`             // of the entry, RFC 3339 in UTC
	State           string `json:"state"`            // closed, failed or closing
	Session         string `json:"session_id"`       //
	Scenario        string `json:"scenario"`         //
	Reference       string `json:"reference"`        // as the outcome has it
	OutcomeSource   string `json:"outcome_source"`   //
	OutcomeID       string `json:"outcome_id"`       //
	OutcomeSequence uint64 `json:"outcome_sequence"` // of its message in OUTCOMES
	Participant     string `json:"participant"`      //
	Asset           string `json:"asset"`            //
	Amount          string `json:"amount"`           // exact decimal
	Policy          string `json:"policy"`           //
	Attempt         int    `json:"attempt"`          //
	Recovered       bool   `json:"recovered"`        // found closed at the node
	NodeURL         string `json:"node_url"`         // that closed it
	NodeAddress     string `json:"node_address"`     // that signed the answer
	NodeRequest     uint64 `json:"node_request_id"`  //
	ErrorCode       string `json:"error_code"`       // of a failed entry
	DeadLetter      uint64 `json:"dead_letter"`      // likewise
	EntryHash       string `json:"entry_sha256"`     // of the entry's stored bytes: the next entry of its session names it
}

// ExportColumns are the header of an export as CSV.
var ExportColumns = exportColumns()

func exportColumns() (names []string) {
	for column := range reflect.TypeFor[ExportRow]().Fields() {
		names = append(names, column.Tag.Get("json"))
	}
	return names
}

// ExportRows are the rows of an entry, at least one.
func ExportRows(s ledger.Stored) []ExportRow {
	e := s.Entry
	sum := sha256.Sum256(s.Payload)
	common := ExportRow{
		Sequence: e.Sequence, Row: 1, Time: e.Time.UTC().Format(time.RFC3339Nano), State: string(e.State),
		Session: e.Session.Token(), Scenario: string(e.Scenario), Reference: e.Reference,
		OutcomeSource: e.Outcome.Source, OutcomeID: e.Outcome.ID, OutcomeSequence: e.Outcome.Sequence,
		Attempt: e.Attempt, Recovered: e.Recovered != nil && *e.Recovered, DeadLetter: e.DeadLetter, EntryHash: hex.EncodeToString(sum[:]),
	}
	if e.Policy != nil {
		common.Policy = e.Policy.Name
	}
	if e.Node != nil {
		common.NodeURL, common.NodeAddress, common.NodeRequest = e.Node.URL, e.Node.Address, e.Node.RequestID
	}
	if e.Error != nil {
		common.ErrorCode = string(e.Error.Code)
	}
	if len(e.Allocation) == 0 {
		return []ExportRow{common}
	}
	rows := make([]ExportRow, len(e.Allocation))
	for i, a := range e.Allocation {
		rows[i] = common
		rows[i].Row, rows[i].Participant, rows[i].Asset, rows[i].Amount = i+1, a.Participant, string(a.Asset), a.Amount.String()
	}
	return rows
}

// cells returns the row's values in the order of ExportColumns.
func (r ExportRow) cells() (cells []string) {
	for _, value := range reflect.ValueOf(r).Fields() {
		cells = append(cells, cell(fmt.Sprint(value)))
	}
	return cells
}

// cell makes foreign text safe to open in a spreadsheet. It prefixes text that could be a
// formula with an apostrophe, and text that begins with one, so that removing it restores
// the text. Control and invisible characters become spaces.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if terminal.IsInvisible(r) {
			return ' '
		}
		return r
	}, s)
	if first := strings.TrimLeftFunc(s, unicode.IsSpace); strings.IndexAny(first, "=+-@'＝＋－＠|%") == 0 {
		return "'" + s
	}
	return s
}

// exportFormat writes the rows of entries as text, each row one line.
type exportFormat struct {
	Name   string
	header string // the first line; empty: none
	rows   func(*bytes.Buffer, []ExportRow) error
}

// exportFormats are the formats there are.
var exportFormats = []exportFormat{
	{Name: "csv", header: strings.Join(ExportColumns, ",") + "\n", rows: csvRows},
	{Name: "jsonl", rows: jsonRows},
}

func FormatNamed(name string) (exportFormat, error) {
	for _, f := range exportFormats {
		if f.Name == name {
			return f, nil
		}
	}
	return exportFormat{}, terminal.UsageError(fmt.Errorf("--format %q: want csv or jsonl", name))
}

// csvRows writes rows by RFC 4180 with single-byte line ends.
func csvRows(b *bytes.Buffer, rows []ExportRow) error {
	w := csv.NewWriter(b)
	for _, r := range rows {
		if err := w.Write(r.cells()); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

func jsonRows(b *bytes.Buffer, rows []ExportRow) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	b.Write(terminal.EscapeJSON(text.Bytes()))
	return nil
}

// sequenceOf returns the sequence in a line of an export.
func (f exportFormat) sequenceOf(line []byte) (uint64, error) {
	if f.Name == "jsonl" {
		var r struct {
			Sequence uint64 `json:"sequence"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Sequence == 0 {
			return 0, fmt.Errorf("%.80q is no row of an export as jsonl", line)
		}
		return r.Sequence, nil
	}
	text, _, _ := strings.Cut(string(line), ",")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.80q is no row of an export as csv", line)
	}
	return n, nil
}
