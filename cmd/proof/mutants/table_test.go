package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const moduleRoot = "../../.."

// Every change fits the current sources exactly once, and the result parses.
func TestMutantsFit(t *testing.T) {
	text, err := os.ReadFile("mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	names, rules := map[string]bool{}, map[string]bool{}
	for _, m := range all {
		sources, err := m.sources(moduleRoot)
		if err != nil {
			t.Errorf("%v\nupdate cmd/proof/mutants/mutants.txt", err)
		}
		for file, text := range sources {
			if _, err := parser.ParseFile(token.NewFileSet(), file, text, 0); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		for _, test := range strings.FieldsFunc(m.test.names, func(r rune) bool { return strings.ContainsRune("^()|$", r) }) {
			if !testExists(t, m.test.pkg, test) {
				t.Errorf("mutant %s: package %s has no test %s", m.name, m.test.pkg, test)
			}
		}
		if names[m.name] {
			t.Errorf("two mutants are named %s", m.name)
		}
		names[m.name], rules[strings.Join(strings.SplitN(m.name, "-", 3)[:2], "-")] = true, true
	}
	if len(all) < 25 {
		t.Errorf("%d mutants, want 25", len(all))
	}
	for _, rule := range []string{"01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"} {
		if !rules["rule-"+rule] {
			t.Errorf("no mutant of rule %s", rule)
		}
	}
}

// testExists reports whether a package of the module has a test of this name.
func testExists(t *testing.T, pkg, name string) bool {
	files, err := filepath.Glob(filepath.Join(moduleRoot, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "func "+name+"(")
	})
}

func TestParse(t *testing.T) {
	for text, wrong := range map[string]bool{
		"== a\nwhat\n-- f.go\nold\n=>\nnew\n":                 false,
		"== a\nwhat\n-- f.go\nold\n=>\n":                      false,
		"== a\nwhat\n-- f.go\nold\n":                          true,
		"== a\n-- f.go\nold\n=>\nnew\n":                       true,
		"== a\nwhat\n":                                        true,
		"preamble\n\n== a\nw\n-- f.go\no\n=>\nn\n\n== b\nw\n": true,
	} {
		if _, err := parse(text); (err != nil) != wrong {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A change whose old text is missing, or there twice, is refused.
func TestChangeMustFitOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f.go", []byte("a b a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for old, fits := range map[string]bool{"b": true, "a": false, "c": false} {
		m := mutant{name: "m", patches: []patch{{"f.go", old, "x"}}}
		sources, err := m.sources(dir)
		if (err == nil) != fits {
			t.Errorf("%q: %v", old, err)
		}
		if fits && sources["f.go"] != "a x a\n" {
			t.Errorf("%q", sources["f.go"])
		}
	}
}
