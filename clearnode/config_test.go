package clearnode_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
)

func TestConfig(t *testing.T) {
	good := clearnode.Config{URL: "wss://node.example/ws", Signers: []clearnode.Signer{clearnode.KeySigner(keyOf(1))}}
	for it, change := range map[string]func(*clearnode.Config){
		"defaults":       func(*clearnode.Config) {},
		"auto":           func(c *clearnode.Config) { c.Protocol = "auto" },
		"0.2":            func(c *clearnode.Config) { c.Protocol = "nitrorpc/0.2" },
		"0.4":            func(c *clearnode.Config) { c.Protocol = "nitrorpc/0.4" },
		"legacy":         func(c *clearnode.Config) { c.Protocol = "nitrorpc/legacy" },
		"v1":             func(c *clearnode.Config) { c.Protocol = "nitronode/v1" },
		"not encrypted":  func(c *clearnode.Config) { c.URL = "ws://127.0.0.1:8000/ws" },
		"user and query": func(c *clearnode.Config) { c.URL = "wss://a:b@node.example/ws?c=d" },
		"a short expiry": func(c *clearnode.Config) {
			c.MessageExpiry, c.RequestValidity, c.FenceMargin = 3*time.Second, time.Second, time.Second
		},
	} {
		c := good
		change(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", it, err)
		}
		if _, err := clearnode.New(c); err != nil {
			t.Errorf("%s: %v", it, err)
		}
	}
	for _, tc := range []struct {
		it, says string
		change   func(*clearnode.Config)
	}{
		{"no url", "clearnode.url", func(c *clearnode.Config) { c.URL = "" }},
		{"http", "ws://", func(c *clearnode.Config) { c.URL = "https://node.example/ws" }},
		{"no host", "clearnode.url", func(c *clearnode.Config) { c.URL = "ws:///ws" }},
		{"no url at all", "clearnode.url", func(c *clearnode.Config) { c.URL = "wss://user:hunter2@no de/%zz" }},
		{"another protocol", "nitrorpc/0.4", func(c *clearnode.Config) { c.Protocol = "NitroRPC/0.2" }},
		{"no key", "clearnode.key_files", func(c *clearnode.Config) { c.Signers = nil }},
		{"a key twice", "stands twice", func(c *clearnode.Config) { c.Signers = append(c.Signers, c.Signers[0]) }},
		{"a key that is none", "missing", func(c *clearnode.Config) { c.Signers = []clearnode.Signer{nil} }},
		{"negative connections", "clearnode.connections", func(c *clearnode.Config) { c.Connections = -1 }},
		{"too many connections", "clearnode.connections", func(c *clearnode.Config) { c.Connections = 1000 }},
		{"no connections at least", "clearnode.connections_min", func(c *clearnode.Config) { c.ConnectionsMin = -1 }},
		{"too many connections at most", "clearnode.connections_max", func(c *clearnode.Config) { c.ConnectionsMax = 1000 }},
		{"more connections at least than at most", "lower it to 8", func(c *clearnode.Config) { c.ConnectionsMin = 9 }},
		{"negative timeout", "clearnode.request_timeout", func(c *clearnode.Config) { c.RequestTimeout = -1 }},
		{"negative expiry", "clearnode.message_expiry", func(c *clearnode.Config) { c.MessageExpiry = -time.Minute }},
		{"negative validity", "clearnode.request_validity", func(c *clearnode.Config) { c.RequestValidity = -1 }},
		{"negative margin", "clearnode.fence_margin", func(c *clearnode.Config) { c.FenceMargin = -1 }},
		{"a session key for no time", "the life of a session key", func(c *clearnode.Config) { c.SessionKeyLife = -1 }},
		{"a session key for two days", "the life of a session key", func(c *clearnode.Config) { c.SessionKeyLife = 48 * time.Hour }},
		{"an endless application", "clearnode.application", func(c *clearnode.Config) { c.Application = strings.Repeat("x", 65) }},
		{"an application that is no text", "clearnode.application", func(c *clearnode.Config) { c.Application = "\xff" }},
		{"valid as long as the node accepts", "clearnode.request_validity", func(c *clearnode.Config) { c.RequestValidity = time.Minute }},
		{"an expiry below the default validity", "clearnode.request_validity", func(c *clearnode.Config) { c.MessageExpiry = 10 * time.Second }},
	} {
		c := good
		tc.change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q in it", tc.it, err, tc.says)
		}
		if _, err := clearnode.New(c); err == nil {
			t.Errorf("%s: a client was made", tc.it)
		}
	}
}

func TestLoadKeyFile(t *testing.T) {
	digits := strings.Repeat("0", 63) + "3"
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "judge.key")
		must(t, os.WriteFile(path, []byte(text), mode))
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	for it, path := range map[string]string{
		"digits": write(digits, 0o600), "with 0x": write("0x"+digits, 0o400), "with a line end": write(digits+"\n", 0o600), "spaced": write(" \t0x"+digits+"\r\n", 0o600),
	} {
		s, err := clearnode.LoadKeyFile(path, "")
		if err != nil {
			t.Errorf("%s: %v", it, err)
		} else if s.Address().String() != judge {
			t.Errorf("%s: key of %s", it, s.Address())
		}
	}
	for it, text := range map[string]string{
		"empty": "", "short": digits[1:], "long": digits + "0", "no digits": strings.Repeat("secret!!", 8), "zero": strings.Repeat("0", 64),
		"two lines": digits + "\n" + digits, "long enough": strings.Repeat("1", 1<<10),
	} {
		path := write(text, 0o600)
		_, err := clearnode.LoadKeyFile(path, "")
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "64 hex digits") {
			t.Errorf("%s: %v", it, err)
		}
		if err != nil && len(text) > 0 && (strings.Contains(err.Error(), text[:min(len(text), 20)]) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: the error shows it: %v", it, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644, 0o610, 0o601} {
		path := write(digits, mode)
		if _, err := clearnode.LoadKeyFile(path, ""); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := clearnode.LoadKeyFile(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("a file that isn't there was read")
	}
	if _, err := clearnode.LoadKeyFile(t.TempDir(), ""); err == nil {
		t.Error("a folder was read")
	}
}
