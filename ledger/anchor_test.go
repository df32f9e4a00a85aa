package ledger_test

import (
	"strings"
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
)

// TestAnchor: a removed tail, and one that was replaced, are seen by an earlier
// anchor and by nothing else.
func TestAnchor(t *testing.T) {
	for it, c := range map[string]struct {
		tamper func(*ledgertest.Stream)
		want   string
	}{
		"as it was":     {func(*ledgertest.Stream) {}, ""},
		"a longer one":  {func(m *ledgertest.Stream) { fill(t, ledger.New(m, config()), 50, 51) }, ""},
		"cut":           {func(m *ledgertest.Stream) { m.Rewind(11) }, "by the anchor it went on to entry 13"},
		"cut and grown": {func(m *ledgertest.Stream) { m.Rewind(11); fill(t, ledger.New(m, config()), 50, 54) }, "and by the anchor it was"},
	} {
		mem := good(t)
		whole := mustVerify(t, ledger.New(mem, config()))
		anchor, err := ledger.ParseAnchor(ledger.Anchor{Sequence: whole.Last, Digest: whole.LastDigest}.String())
		if err != nil {
			t.Fatal(err)
		}
		c.tamper(mem)
		r, err := ledger.New(mem, config()).Verify(t.Context(), ledger.Audit{Anchor: &anchor})
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" && len(r.Findings) > 0 || c.want != "" && (len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Text, c.want)) {
			t.Errorf("%s: %v", it, r.Findings)
		}
	}
	for _, text := range []string{"", "0", "x", "12:", "12:ab", ":" + strings.Repeat("0", 64)} {
		if _, err := ledger.ParseAnchor(text); err == nil {
			t.Errorf("%q is no anchor", text)
		}
	}
}
