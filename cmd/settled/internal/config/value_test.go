package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// valid is a value of a key's kind, as YAML.
func (k Key) valid() string {
	switch k.value.(type) {
	case *bool:
		return "true"
	case *int, *AutoInt, *float64:
		return "3"
	case *time.Duration:
		return "20s"
	case *[]string:
		return `["0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"]`
	}
	return `"x"`
}

// misshapen are values that are not of the key's kind.
func (k Key) misshapen() []string {
	wrong := []string{"", "~", "null", "{a: b}", "[[a]]", "[{a: b}]", "[~]", `[""]`, `[" "]`, "[3]", "2026-11-30"}
	switch k.value.(type) {
	case *bool:
		return append(wrong, "[true]", "3", "1.5", "perhaps", "yes", `"yes"`, `"true"`, `"false"`, "'true'", "!!str true")
	case *int:
		return append(wrong, "[3]", "3.5", "true", `"three"`, `"3s"`)
	case *AutoInt:
		return append(wrong, "[3]", "3.5", "0", "-1", "true", "Auto", `"three"`)
	case *float64:
		return append(wrong, "[3]", "true", `"fast"`)
	case *time.Duration:
		return append(wrong, "[20s]", "20", "20.5", "true", `"20"`, `"soon"`, `"-1s"`)
	case *[]string:
		return append(wrong, "3", "true", "0x12", `[a, ""]`, `"a,,b"`, `"a,"`, `","`, "[a, 3]")
	}
	return append(wrong, "3", "1.5", "true", "0x12")
}

func (k Key) file(t *testing.T, value string) string {
	t.Helper()
	path := strings.Split(k.Name, ".")
	var b strings.Builder
	for i, name := range path[:len(path)-1] {
		fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), name)
	}
	fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(path)-1), path[len(path)-1], value)
	file := filepath.Join(t.TempDir(), "settled.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// commandWithFlags is a command with a flag for every key.
func commandWithFlags() *cobra.Command {
	c := &cobra.Command{}
	AddFlags(c.PersistentFlags())
	return c
}

// read is what the configuration's reader says of a file, without what check says of
// the values together.
func readShape(file string) error {
	f, err := readConfigFile(file)
	if err != nil {
		return err
	}
	c := commandWithFlags()
	v, err := newViper(c, f)
	if err != nil {
		return err
	}
	for _, k := range new(Config).Keys() {
		if err := k.Set(v.Get(k.Name)); err != nil {
			return fmt.Errorf("%s%s: %w", k.origin(c, f), k.Name, err)
		}
	}
	return nil
}

// TestValuesOfTheWrongShape: every key refuses every shape that is not its own, by file,
// line and name; and takes its own.
func TestValuesOfTheWrongShape(t *testing.T) {
	for _, k := range new(Config).Keys() {
		if err := readShape(k.file(t, k.valid())); err != nil {
			t.Errorf("%s: %s is refused: %v", k.Name, k.valid(), err)
		}
		line := strings.Count(k.Name, ".") + 1
		for _, value := range k.misshapen() {
			file := k.file(t, value)
			err := readShape(file)
			if err == nil {
				t.Errorf("%s: %s is taken", k.Name, value)
				continue
			}
			if want := fmt.Sprintf("%s:%d: %s: ", file, line, k.Name); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: %s: %v\nwant file, line and key: %s", k.Name, value, err, want)
			}
		}
		if strings.Contains(k.Name, ".") {
			section, _, _ := strings.Cut(k.Name, ".")
			file := (Key{Name: section}).file(t, "[3]")
			if err := readShape(file); err == nil || !strings.Contains(err.Error(), file+":1: "+section) {
				t.Errorf("%s as a list: %v", section, err)
			}
		}
	}
}

// TestSeveralServers: the servers of NATS are one text or a list.
func TestSeveralServers(t *testing.T) {
	k := *findKey("nats.url")
	for value, want := range map[string]string{`"nats://a, nats://b"`: "nats://a, nats://b", "[nats://a, nats://b]": "nats://a,nats://b"} {
		file := k.file(t, value)
		f, err := readConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := newViper(commandWithFlags(), f)
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		k := c.Keys()[0]
		if err := k.Set(v.Get(k.Name)); err != nil || c.NATSURL != want {
			t.Errorf("%s: %q, %v", value, c.NATSURL, err)
		}
	}
	if err := readShape(k.file(t, `["nats://a,nats://b"]`)); err == nil {
		t.Error("an item of a list holds two servers")
	}
}

// TestBlankVariables: a variable or flag that is blank, or a list with an empty item, takes
// nothing away in silence.
func TestBlankVariables(t *testing.T) {
	const signer = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	file := findKey("trust.outcome_signers").file(t, `["`+signer+`"]`)
	for _, value := range []string{" ", ",", signer + ",", "," + signer, signer + ", ,"} {
		t.Setenv("SETTLED_TRUST_OUTCOME_SIGNERS", value)
		if err := readShape(file); err == nil || !strings.HasPrefix(err.Error(), "SETTLED_TRUST_OUTCOME_SIGNERS: trust.outcome_signers: ") {
			t.Errorf("%q: %v", value, err)
		}
	}
	t.Setenv("SETTLED_TRUST_OUTCOME_SIGNERS", "")
	t.Setenv("SETTLED_CLEARNODE_NODE_ADDRESS", "  ")
	if err := readShape(file); err == nil || !strings.Contains(err.Error(), "SETTLED_CLEARNODE_NODE_ADDRESS") {
		t.Errorf("a blank address: %v", err)
	}
}
