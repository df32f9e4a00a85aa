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
	test       test // that has to catch it, in the place of the schedules; zero: none
	patches    []patch
}

// test is one or more of a package's tests. What the simulation has no place for, as
// the settings of a server's stream, is left to them.
type test struct{ pkg, names string }

// patch is one change of a source file. What it replaces must stand there exactly
// once.
type patch struct{ file, old, new string }

// parse reads the table: "== name", what the rule is, perhaps "test: package names", and for each change
// "-- file", what stands there, "=>", and what is to stand there.
func parse(text string) ([]mutant, error) {
	var all []mutant
	sections := strings.Split("\n"+text, "\n== ")
	for _, section := range sections[1:] {
		parts := strings.Split(section, "\n-- ")
		name, rule, _ := strings.Cut(parts[0], "\n")
		rule, by, _ := strings.Cut(rule, "\ntest: ")
		m := mutant{name: name, rule: strings.TrimSpace(rule)}
		m.test.pkg, m.test.names, _ = strings.Cut(strings.TrimSpace(by), " ")
		for _, part := range parts[1:] {
			file, change, _ := strings.Cut(part, "\n")
			old, replacement, found := strings.Cut(change+"\n", "\n=>\n")
			if !found {
				return nil, fmt.Errorf("mutant %s: the change of %s has no =>", name, file)
			}
			m.patches = append(m.patches, patch{file, strings.TrimRight(old, "\n"), strings.TrimRight(replacement, "\n")})
		}
		if len(m.patches) == 0 || m.rule == "" {
			return nil, fmt.Errorf("mutant %s: want what it is and at least one change", name)
		}
		all = append(all, m)
	}
	return all, nil
}

// sources are the changed files of a mutant, by their paths in the module.
func (m mutant) sources(root string) (map[string]string, error) {
	changed := map[string]string{}
	for _, p := range m.patches {
		text, begun := changed[p.file]
		if !begun {
			b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(p.file)))
			if err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.name, err)
			}
			text = string(b)
		}
		if n := strings.Count(text, p.old); n != 1 {
			return nil, fmt.Errorf("mutant %s: what it changes stands %d times in %s, want once:\n%s", m.name, n, p.file, p.old)
		}
		changed[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	return changed, nil
}
