package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenFile(t *testing.T) {
	const token = "0123456789abcdef0123456789"
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
		bad  string
	}{
		"good":     {token + "\n", 0o600, token, ""},
		"short":    {"secret\n", 0o600, "", "at least 16"},
		"empty":    {"", 0o600, "", "at least 16"},
		"two":      {token + " " + token, 0o600, "", "one word"},
		"readable": {token, 0o644, "", "chmod 600"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := readToken(path)
		if got != c.want || (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the token is in the error: %v", name, err)
		}
	}
	if got, err := readToken(""); got != "" || err != nil {
		t.Errorf("none: %q, %v", got, err)
	}
	if _, err := readToken(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file is no error")
	}
}
