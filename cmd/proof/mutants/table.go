package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one deliberate defect.
type mutant struct {
	name, rule string
	test       struct{ pkg, names string } // that must fail; empty: a schedule must catch it
	patches    []patch
}

// patch is one change of a source file. The text that it replaces must be there exactly
// once.
type patch struct{ file, old, new string }

// parse reads the table: "== name", a line of description, optionally "test: package
// names", and for each change "-- file", the old text, "=>" and the new text.
func parse(text string) ([]mutant, error) {
	var all []mutant
	sections := strings.Split("\n"+text, "\n== ")
	for _, section := range sections[1:] {
		parts := strings.Split(section, "\n-- ")
		name, rule, _ := strings.Cut(parts[0], "\n")
		rule, test, _ := strings.Cut(rule, "\ntest: ")
		m := mutant{name: name, rule: strings.TrimSpace(rule)}
		m.test.pkg, m.test.names, _ = strings.Cut(strings.TrimSpace(test), " ")
		for _, part := range parts[1:] {
			file, change, _ := strings.Cut(part, "\n")
			old, replacement, found := strings.Cut(change+"\n", "\n=>\n")
			if !found {
				return nil, fmt.Errorf("mutant %s: the change of %s has no =>", name, file)
			}
			m.patches = append(m.patches, patch{file, strings.TrimRight(old, "\n"), strings.TrimRight(replacement, "\n")})
		}
		if len(m.patches) == 0 || m.rule == "" {
			return nil, fmt.Errorf("mutant %s: want a description and at least one change", name)
		}
		all = append(all, m)
	}
	return all, nil
}

// sources are the changed files of a mutant, by their paths in the module.
func (m mutant) sources(root string) (map[string]string, error) {
	changed := map[string]string{}
	for _, p := range m.patches {
		text, found := changed[p.file]
		if !found {
			b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(p.file)))
			if err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.name, err)
			}
			text = string(b)
		}
		if n := strings.Count(text, p.old); n != 1 {
			return nil, fmt.Errorf("mutant %s: the text that it replaces is %d times in %s, want once:\n%s", m.name, n, p.file, p.old)
		}
		changed[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	return changed, nil
}
