package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

const formula = "=HYPERLINK(\"http://evil\",\"pay\")\nx"

// month is a ledger with three sessions closed and one outcome failed; the second
// session's reference is a formula.
func month(t *testing.T) (*deployment, []settlement.SessionID) {
	t.Helper()
	d := deploy(t)
	d.serve()
	var sessions []settlement.SessionID
	for i := range 3 {
		session := d.open()
		data := d.partial()
		data["reference"] = []string{"order-1", formula, "order-3"}[i]
		d.result(session, d.publish("partial_service", fmt.Sprint("o", i), session, data))
		sessions = append(sessions, session)
	}
	failed := d.publish("cancellation", "again", sessions[0], map[string]any{"reference": "order-1"})
	d.wantCode(d.result(sessions[0], failed), settlement.OutcomeConflict)
	return d, sessions
}

func TestLedgerList(t *testing.T) {
	d, sessions := month(t)
	list := func(args ...string) (found []listedEntry) {
		t.Helper()
		for line := range strings.Lines(d.ok(append([]string{"ledger", "list", "-o", "json"}, args...)...)) {
			var e listedEntry
			d.must(json.Unmarshal([]byte(line), &e))
			found = append(found, e)
		}
		return found
	}
	if all := list(); len(all) != 7 || all[0].State != settlement.EntryClosing || all[1].Session != sessions[0] || all[6].Error == nil {
		t.Errorf("%+v", all)
	}
	for args, want := range map[string]string{
		"--state closed":                                  "[2 4 6]",
		"--state failed":                                  "[7]",
		"--reference order-1":                             "[1 2 7]",
		"--scenario cancellation":                         "[7]",
		"--since 1h --limit 2 --after 3":                  "[4 5]",
		"--before 2020-01-01":                             "[]",
		"--since 2020-01-01 --before 2020-02-01":          "[]",
		"--after 7":                                       "[]",
		"--session " + string(sessions[0]):                "[1 2 7]",
		"--state closed --session " + string(sessions[1]): "[4]",
		"--since 1h --state closed --reference x":         "[]",
	} {
		got := []uint64{}
		for _, e := range list(strings.Fields(args)...) {
			got = append(got, e.Sequence)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("list %s: %v, want %s", args, got, want)
		}
	}
	// An id that a list cut short can't be given to show: the entry's sequence can.
	if bySequence, byID := d.ok("ledger", "show", "7"), d.ok("ledger", "show", string(sessions[0])); bySequence != byID || !strings.Contains(byID, "3 entries, 1 attempt, 1 failure.") {
		t.Errorf("show 7:\n%s\nshow %s:\n%s", bySequence, sessions[0], byID)
	}
	if status, _, note := d.command("ledger", "show", "700"); status != exitFailed || !strings.Contains(note, "no entry 700") {
		t.Errorf("%d %s", status, note)
	}
	if status, _, note := d.command("ledger", "show", "0xab…cdef"); status != exitMisused || !strings.Contains(note, "SEQUENCE") {
		t.Errorf("%d %s", status, note)
	}
	status, out, note := d.command("ledger", "list", "--state", "closed", "--limit", "2")
	if status != exitDone || strings.Count(out, "\n") != 3 || !strings.Contains(note, "--after 4") || strings.Contains(out, "evil\",\"pay\")\nx") {
		t.Errorf("%d %s %s", status, out, note)
	}
	if out := d.ok("ledger", "list", "--state", "failed", "--limit", "1"); !strings.Contains(out, "outcome_conflict") {
		t.Error(out)
	}
	for _, args := range []string{"--state open", "--since yesterday", "--limit -1", "--since 2026-02-01 --before 2026-01-01"} {
		if status, _, _ := d.command(append([]string{"ledger", "list"}, strings.Fields(args)...)...); status != exitMisused {
			t.Errorf("list %s: exit %d", args, status)
		}
	}
	d.verify(3)
}

func TestLedgerShowTellsTheStory(t *testing.T) {
	d, sessions := month(t)
	out := d.ok("ledger", "show", string(sessions[0]))
	for _, want := range []string{
		"3 entries, 1 attempt, 1 failure. It is closed by outcome o0 of /test, entry 2.", "OUTCOMES/1", "order-1", "expires at",
		"the node's\n", "close_app_session", "outcome_conflict (conflict)", "dead letter  1", "partial_service",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	d.verify(3)
}

// Whatever an export was cut at, resuming it gives the bytes of one that was not.
func TestExportResumes(t *testing.T) {
	t.Parallel()
	d, _ := month(t)
	for _, format := range []string{"csv", "jsonl"} {
		whole := filepath.Join(d.dir, "whole."+format)
		out := d.ok("ledger", "export", "--state", "all", "--format", format, "--out", whole)
		if !strings.Contains(out, "37 rows of 7 entries written, up to entry 7") { // 6 entries of 3 participants and 2 assets
			t.Error(out)
		}
		want, err := os.ReadFile(whole)
		d.must(err)
		if stdout := d.ok("ledger", "export", "--state", "all", "--format", format); stdout != string(want) {
			t.Errorf("the standard output has other bytes:\n%s", stdout)
		}
		f := exportFlags{entryFilter: entryFilter{state: stateAll}}
		chosen, err := audit.FormatNamed(format)
		d.must(err)
		p := &program{Streams: terminal.New(nil, os.Stdout, os.Stderr)}
		for cut := 0; cut <= len(want); cut += 97 {
			torn := filepath.Join(d.dir, fmt.Sprint("torn", cut))
			d.must(os.WriteFile(torn, want[:cut], 0o600))
			x, err := audit.ToFile(torn, chosen, true)
			d.must(err)
			f.after = max(x.From, 1) - 1
			d.must(x.Close(p.exportTo(t.Context(), d.nats, "", &f, x)))
			if got, _ := os.ReadFile(torn); !bytes.Equal(got, want) {
				t.Fatalf("%s cut at %d and resumed: %d bytes, want %d", format, cut, len(got), len(want))
			}
		}
	}
	d.verify(3)
}

func TestExportRefuses(t *testing.T) {
	d, _ := month(t)
	out := filepath.Join(d.dir, "out.csv")
	d.ok("ledger", "export", "--out", out)
	kept, err := os.ReadFile(out)
	d.must(err)
	for args, want := range map[string]string{
		"--out " + out: "is there already",
		"--out " + out + " --resume --state failed":      "give the options that it was begun with",
		"--out " + out + " --resume --reference order-1": "give the options that it was begun with",
		"--out " + out + " --resume --format jsonl":      "does not begin as an export as jsonl",
		"--resume":     "--resume without --out",
		"--format xml": "want csv or jsonl",
		"--out " + out + " --resume --state closed --before 2020-01-01":       "give the options that it was begun with",
		"--out " + filepath.Join(d.dir, "no", "such", "folder") + " --resume": "no such file",
	} {
		status, _, stderr := d.command(append([]string{"ledger", "export"}, strings.Fields(args)...)...)
		if status == exitDone || !strings.Contains(stderr, want) {
			t.Errorf("export %s: %d %s", args, status, stderr)
		}
	}
	if now, _ := os.ReadFile(out); !bytes.Equal(now, kept) {
		t.Error("a refused export changed the file")
	}
	d.verify(3)
}

// A spreadsheet is given no formula, and nothing is lost by that.
func TestExportNeutralisesFormulas(t *testing.T) {
	d, sessions := month(t)
	rows, err := csv.NewReader(strings.NewReader(d.ok("ledger", "export"))).ReadAll()
	d.must(err)
	if len(rows) != 19 || strings.Join(rows[0], ",") != strings.Join(audit.ExportColumns, ",") {
		t.Fatalf("%d rows, %v", len(rows), rows[0])
	}
	reference := map[string]string{}
	sum := map[string]int{}
	for _, r := range rows[1:] {
		reference[r[4]] = r[6]
		sum[r[10]+" "+r[12]]++
	}
	if got := reference[string(sessions[1])]; got != "'"+strings.ReplaceAll(formula, "\n", " ") {
		t.Errorf("the reference is %q", got)
	}
	if reference[string(sessions[0])] != "order-1" || sum[addressOf(d.judge)+" 0"] != 6 {
		t.Errorf("%v %v", reference, sum)
	}
	var first audit.ExportRow
	line, _, _ := strings.Cut(d.ok("ledger", "export", "--reference", formula, "-o", "json"), "\n")
	d.must(json.Unmarshal([]byte(line), &first))
	if first.Reference != formula || first.Session != string(sessions[1]) || len(first.EntryHash) != 64 {
		t.Errorf("%+v", first)
	}
	d.verify(3)
}

func TestEntryFilterByTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := entryFilter{state: stateAll, since: "2026-11-01", before: "2h"}
	if err := f.parse(now); err != nil || !f.from.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) || !f.to.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("%v %v %v", f.from, f.to, err)
	}
}
