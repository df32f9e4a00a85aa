package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"settled/cmd/settled/internal/terminal"
)

func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"order 1": "order 1", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "' =1", " =1": "' =1", "＝1": "'＝1",
		"'quoted": "''quoted", "|calc": "'|calc", "": "", "a=b": "a=b", "a\r\nb": "a  b", "\u2028=1": "' =1",
		"\u200b=1": "' =1", "\ufeff=1": "' =1", "\u2003=1": "'\u2003=1", "a\u202eb": "a b", "\u009b2J": " 2J", "\x7f": " ", "\x1b[2J": " [2J",
	} {
		if got := cell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// JSON Lines have every text as it is, with escapes for what a terminal would obey.
func TestJSONRowsAreSafeToPrint(t *testing.T) {
	want := "a\nb\x1b[2J\u009b\u202e\u200b\x7f\u2028"
	var b bytes.Buffer
	if err := jsonRows(&b, []ExportRow{{Reference: want}}); err != nil {
		t.Fatal(err)
	}
	var got ExportRow
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Reference != want || strings.IndexFunc(strings.TrimSuffix(b.String(), "\n"), terminal.IsInvisible) >= 0 {
		t.Errorf("%q, %q, %v", b.String(), got.Reference, err)
	}
}

// TestExportColumns: columns are only ever added, at the end.
func TestExportColumns(t *testing.T) {
	const want = "sequence,row,time,state,session_id,scenario,reference,outcome_source,outcome_id,outcome_sequence," +
		"participant,asset,amount,policy,attempt,recovered,node_url,node_address,node_request_id,error_code,dead_letter,entry_sha256"
	if got := strings.Join(ExportColumns, ","); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := strings.Join(ExportRow{Sequence: 7, Recovered: true, EntryHash: "h"}.cells(), ","); got != "7,0,,,,,,,,0,,,,,0,true,,,0,,0,h" {
		t.Error(got)
	}
}
