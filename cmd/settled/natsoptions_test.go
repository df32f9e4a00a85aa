package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestModesAtNATS: every secret file that the connection to NATS needs is refused where
// others can read it, with the key that names it.
func TestModesAtNATS(t *testing.T) {
	for name, set := range map[string]func(*config, string){
		"nats.credentials_file": func(c *config, path string) { c.natsCredentials = path },
		"nats.nkey_file":        func(c *config, path string) { c.natsNKey = path },
		"nats.tls.key":          func(c *config, path string) { c.natsCert, c.natsCertKey = path, path },
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil { // #nosec G306 -- that is the test
			t.Fatal(err)
		}
		var c config
		set(&c, path)
		_, err := c.natsOptions("test", false)
		if err == nil || !strings.HasPrefix(err.Error(), name) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOperatorOfDemo: the URL that a demo leaves for other commands counts only where it is
// this user's file.
func TestOperatorOfDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	store := filepath.Join(os.TempDir(), demoDir+"1", demoStore)
	file := filepath.Join(store, operatorFile)
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("nats://operator:secret@127.0.0.1:4222"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &config{natsURL: "nats://127.0.0.1:4222", embeddedStoreDir: t.TempDir()}
	if got := c.asOperator().natsURL; !strings.Contains(got, "operator:secret@") {
		t.Errorf("our own demo: %s", got)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	if err := os.Chown(file, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if got := c.asOperator().natsURL; got != c.natsURL {
		t.Errorf("another user's file: %s", got)
	}
	c.embeddedStoreDir = store
	if got := c.asOperator().natsURL; !strings.Contains(got, "operator:secret@") {
		t.Errorf("embedded.store_dir, of the service's user: %s", got)
	}
}
