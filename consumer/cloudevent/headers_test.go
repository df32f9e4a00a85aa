package cloudevent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"settled/ledger/natstest"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

// manyHeaders is a valid event with n more headers of the shortest names.
func manyHeaders(n int) nats.Header {
	h := header("CE-specversion", "1.0", "ce-ID", "e-1", "ce-source", "/s", "ce-type", "outcome.cancellation", "Traceparent", testParent)
	for i := range n {
		h["ce-"+strconv.FormatInt(int64(i)+36*36*36, 36)] = []string{strconv.Itoa(i)} // four digits
	}
	return h
}

// mostHeaders is how many of them fit into a message of the stream.
const mostHeaders = 20_838

func TestAMessageFullOfHeadersIsRead(t *testing.T) {
	h := manyHeaders(mostHeaders)
	ev := readEvent(foldHeader(h), []byte(testData))
	if ev.err != nil || len(ev.attributes) != mostHeaders+4 || ev.attributes["1000"] != "0" || ev.attributes["id"] != "e-1" {
		t.Errorf("%d attributes, %v: want the %d extensions beside the event's own", len(ev.attributes), ev.err, mostHeaders)
	}
	if e := read(h, testData); e.Malformed != nil || e.ID != "e-1" || e.Traceparent != testParent {
		t.Errorf("malformed %v, id %q, traceparent %q", e.Malformed, e.ID, e.Traceparent)
	}
	h["CE-1000"] = []string{"another"} // in the midst of so many too
	if e := read(h, testData); e.Malformed == nil || !strings.Contains(e.Malformed.Error(), "header ce-1000 occurs 2 times") {
		t.Errorf("malformed %v, want the one that occurs twice", e.Malformed)
	}
}

// The functions called for each header must not loop over all headers.
func TestAHeaderIsReadWithoutGoingThroughAll(t *testing.T) {
	perHeader := map[string]bool{"readHeader": false, "get": false}
	for _, file := range []string{"binary.go", "envelope.go"} {
		parsed := natstest.Must(parser.ParseFile(token.NewFileSet(), file, nil, 0))
		for _, d := range parsed.Decls {
			f, isFunc := d.(*ast.FuncDecl)
			if _, wanted := perHeader[nameOf(f, isFunc)]; wanted {
				perHeader[f.Name.Name] = true
				ast.Inspect(f, func(n ast.Node) bool {
					switch n.(type) {
					case *ast.RangeStmt, *ast.ForStmt:
						t.Errorf("%s: %s, which is called for each header, holds a loop", file, f.Name)
					}
					return true
				})
			}
		}
	}
	for name, found := range perHeader {
		if !found {
			t.Errorf("%s is gone: say here what is called for each header now", name)
		}
	}
}

func nameOf(f *ast.FuncDecl, isFunc bool) string {
	if !isFunc {
		return ""
	}
	return f.Name.Name
}

// Two names are equal when folded if and only if strings.EqualFold holds.
func TestFoldedIsEqualFold(t *testing.T) {
	for a, b := range map[string]string{"CE-Source": "ce-ſource", "ce-key": "CE-\u212aEY", "ce-id": "ce-İd", "ce-": "ce", "\xff": "\ufffd", "Σ": "ς"} {
		if got, want := foldName(a) == foldName(b), strings.EqualFold(a, b); got != want {
			t.Errorf("%q and %q: same %t, want %t", a, b, got, want)
		}
	}
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("cCeE-sSſkK\u212aiIİı1ΣσςǅDž\ufffd")), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := letters.Draw(t, "a"), letters.Draw(t, "b")
		if got, want := foldName(a) == foldName(b), strings.EqualFold(a, b); got != want {
			t.Errorf("%q and %q: same %t, want %t", a, b, got, want)
		}
	})
}

// A header without values isn't there; values of all spellings are counted together.
func TestFoldHeader(t *testing.T) {
	h := foldHeader(nats.Header{"A": {}, "B": {"1"}, "b": {}, "C": {"1"}, "c": {"2", "3"}})
	for name, want := range map[string]string{
		"a": " false <nil>", "b": "1 true <nil>", "c": " true header c occurs 3 times", "d": " false <nil>",
	} {
		value, found, err := h.get(name)
		if got := fmt.Sprint(value, " ", found, " ", err); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Four times the headers must take about four times as long.
func BenchmarkReadEnvelope(b *testing.B) {
	for _, n := range []int{mostHeaders / 16, mostHeaders / 4, mostHeaders} {
		b.Run(fmt.Sprintf("headers=%d", n), func(b *testing.B) {
			h := manyHeaders(n)
			for b.Loop() {
				read(h, testData)
			}
		})
	}
}
