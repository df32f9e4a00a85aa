package clearnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestModesOfSecrets: a secret's group may read it only where root owns it, and what is
// refused names the file and what to run.
func TestModesOfSecrets(t *testing.T) {
	for _, c := range []struct {
		mode             os.FileMode
		own, roots, root bool // accepted: of another user than root; root's; root's, and we are root
	}{
		{0o600, true, true, true}, {0o400, true, true, true}, {0o440, false, true, true}, {0o640, false, true, false},
		{0o444, false, false, false}, {0o460, false, false, false}, {0o450, false, false, false}, {0o644, false, false, false},
		{0o604, false, false, false}, {0o660, false, false, false}, {0o777, false, false, false},
	} {
		for _, by := range []struct{ roots, asRoot, accepted bool }{{false, false, c.own}, {false, true, c.own}, {true, false, c.roots}, {true, true, c.root}} {
			err := secretMode("/s/judge.key", c.mode, by.roots, by.asRoot)
			if (err == nil) != by.accepted {
				t.Errorf("mode %04o, %+v: %v", c.mode, by, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "/s/judge.key") || !strings.Contains(err.Error(), "chmod")) {
				t.Errorf("mode %04o: %v", c.mode, err)
			}
		}
	}
}

// TestEncodingsOfSecrets: a UTF-8 byte order mark is not part of the secret, and what is
// not UTF-8 is named.
func TestEncodingsOfSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"abc\n": "abc\n", "\xef\xbb\xbfabc\r\n": "abc\r\n",
		"\xff\xfea\x00": "UTF-16", "\xfe\xff\x00a": "UTF-16", "a\x00b\x00": "UTF-16",
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecretFile("key file", path)
		if want == "UTF-16" {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q: %v", text, err)
			}
		} else if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// TestOwnSecretFile: in a directory that anybody can write to, a file counts only where this
// process's user owns it, however its mode is, and where it is no link or pipe.
func TestOwnSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "operator.url")
	if err := os.WriteFile(path, []byte("nats://operator:x@127.0.0.1:4222"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOwnSecretFile("URL", path); err != nil {
		t.Errorf("our own: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{link, dir, filepath.Join(dir, "none")} {
		if _, err := ReadOwnSecretFile("URL", other); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", other, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOwnSecretFile("URL", path); err == nil || !strings.Contains(err.Error(), "user 12345 owns it") {
		t.Errorf("another user's: %v", err)
	}
	if _, err := ReadSecretFile("URL", path); err != nil {
		t.Errorf("a file that the operator names: %v", err)
	}
}
