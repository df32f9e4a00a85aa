package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"settled/settlement"
	"settled/settlement/spelling"
)

// configFile is the YAML file as written, for what viper does not keep: line
// numbers, unknown keys, and the order and type of policy steps.
type configFile struct {
	path  string
	text  []byte
	lines map[string]int        // by dotted key
	nodes map[string]*yaml.Node // by dotted key
}

// fileOnly are the keys that only the file can have.
var fileOnly = []string{"policies", "limits"}

func readConfigFile(path string) (configFile, error) {
	f := configFile{path: path, lines: map[string]int{}, nodes: map[string]*yaml.Node{}}
	if path == "" {
		return f, nil
	}
	var err error
	if f.text, err = os.ReadFile(path); err != nil { // #nosec G304 -- the operator names the file
		return f, fmt.Errorf("configuration: %w", err)
	}
	return f, f.parse()
}

func (f configFile) parse() error {
	var document, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(f.text))
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: only one YAML document may stand in it", f.path)
	}
	return f.indexKeys("", document.Content[0])
}

// indexKeys records the position of every key and rejects unknown ones.
func (f configFile) indexKeys(prefix string, n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // a section with nothing in it
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: %swant keys and values here", f.path, n.Line, sectionName(prefix))
	}
	names := keyNames()
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := prefix+n.Content[i].Value, n.Content[i+1]
		if _, twice := f.lines[name]; twice {
			return fmt.Errorf("%s:%d: %s stands twice", f.path, n.Content[i].Line, name)
		}
		f.lines[name], f.nodes[name] = n.Content[i].Line, value
		if k := findKey(name); k != nil {
			if err := k.checkNode(value); err != nil {
				return fmt.Errorf("%s:%d: %s: %w", f.path, n.Content[i].Line, name, err)
			}
		}
		if slices.Contains(names, name) {
			continue
		}
		if !isSection(name, names) {
			return fmt.Errorf("%s:%d: unknown key %s; the nearest known one is %s", f.path, n.Content[i].Line, name, spelling.Nearest(name, candidates(prefix, names)))
		}
		if err := f.indexKeys(name+".", value); err != nil {
			return err
		}
	}
	return nil
}

func keyNames() []string {
	names := slices.Clone(fileOnly)
	for _, k := range new(Config).Keys() {
		names = append(names, k.Name)
	}
	return names
}

// sectionName returns a section's name as the prefix of a message.
func sectionName(prefix string) string {
	if prefix == "" {
		return ""
	}
	return strings.TrimSuffix(prefix, ".") + ": "
}

// candidates are what an unknown key can be a misspelling of: the keys, and the sections at
// its level.
func candidates(prefix string, names []string) []string {
	all := slices.Clone(names)
	for _, name := range names {
		rest, below := strings.CutPrefix(name, prefix)
		if head, _, nested := strings.Cut(rest, "."); below && nested && !slices.Contains(all, prefix+head) {
			all = append(all, prefix+head)
		}
	}
	return all
}

// findKey returns the key of that name; nil: there is none, or only the file can have it.
func findKey(name string) *Key {
	for _, k := range new(Config).Keys() {
		if k.Name == name {
			return &k
		}
	}
	return nil
}

func isSection(name string, names []string) bool {
	return slices.ContainsFunc(names, func(known string) bool { return strings.HasPrefix(known, name+".") })
}

// position returns the key's position in the file, as the prefix of a message.
func (f configFile) position(name string) string {
	if line, found := f.lines[name]; found {
		return fmt.Sprintf("%s:%d: ", f.path, line)
	}
	return ""
}

// LoadPolicies returns the policies and limits of a configuration file alone. The file must be
// valid as a whole.
func LoadPolicies(path string) (settlement.Policies, settlement.Limits, error) {
	file, err := readConfigFile(path)
	if err != nil {
		return nil, nil, err
	}
	policies, _, err := file.policies()
	if err != nil {
		return nil, nil, err
	}
	limits, err := file.limits(policies)
	return policies, limits, err
}

// policies returns the built-in policies, replaced and extended by the file's, and the
// names of the file's.
func (f configFile) policies() (settlement.Policies, []string, error) {
	policies := settlement.BuiltIn()
	n := f.nodes["policies"]
	if n == nil {
		return policies, nil, nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("%s:%d: policies: want scenarios, each with a list of {to, share}", f.path, n.Line)
	}
	var names []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		p, err := f.parsePolicy(n.Content[i], n.Content[i+1])
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(names, string(p.Scenario)) {
			return nil, nil, fmt.Errorf("%s:%d: policy %s stands twice", f.path, n.Content[i].Line, p.Scenario)
		}
		policies[p.Scenario] = p
		names = append(names, string(p.Scenario))
	}
	sort.Strings(names)
	return policies, names, nil
}

func (f configFile) parsePolicy(name, list *yaml.Node) (settlement.Policy, error) {
	scenario, err := settlement.ParseScenario(name.Value)
	if err != nil {
		return settlement.Policy{}, fmt.Errorf("%s:%d: %w", f.path, name.Line, err)
	}
	if list.Kind != yaml.SequenceNode {
		return settlement.Policy{}, fmt.Errorf("%s:%d: policy %s: want a list of {to, share}", f.path, list.Line, scenario)
	}
	steps := make([]settlement.PolicyStep, len(list.Content))
	for i, n := range list.Content {
		if steps[i], err = parsePolicyStep(n); err != nil {
			return settlement.Policy{}, fmt.Errorf("%s:%d: policy %s, step %d: %w", f.path, n.Line, scenario, i+1, err)
		}
	}
	policy, err := settlement.ParsePolicy(scenario, steps)
	var fault *settlement.PolicyError
	if errors.As(err, &fault) {
		line := name.Line
		if fault.Step >= 0 {
			line = list.Content[fault.Step].Line
		}
		return settlement.Policy{}, fmt.Errorf("%s:%d: %w", f.path, line, err)
	}
	return policy, err
}

// parsePolicyStep reads {to, share}.
func parsePolicyStep(n *yaml.Node) (settlement.PolicyStep, error) {
	members, err := textMembers(n, "to", "share")
	return settlement.PolicyStep{To: members["to"], Share: members["share"]}, err
}
