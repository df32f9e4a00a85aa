package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
)

// TestModesAtNATS: every secret file that the connection to NATS needs is refused where
// others can read it, with the key that names it.
func TestModesAtNATS(t *testing.T) {
	for name, set := range map[string]func(*config.Config, string){
		"nats.credentials_file": func(c *config.Config, path string) { c.NATSCredentialsFile = path },
		"nats.nkey_file":        func(c *config.Config, path string) { c.NATSNKeyFile = path },
		"nats.tls.key":          func(c *config.Config, path string) { c.NATSCertFile, c.NATSKeyFile = path, path },
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil { // #nosec G306 -- that is the test
			t.Fatal(err)
		}
		var c config.Config
		set(&c, path)
		_, err := natsconn.Options(&c, "test", false)
		if err == nil || !strings.HasPrefix(err.Error(), name) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOperatorOfDemo: the URL that a demo leaves for other commands counts only where it is
// this user's file.
func TestOperatorOfDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	store := filepath.Join(os.TempDir(), natsconn.DemoDir+"1", natsconn.DemoStore)
	file := filepath.Join(store, natsconn.OperatorFile)
	must(t, os.MkdirAll(store, 0o700))
	must(t, os.WriteFile(file, []byte("nats://operator:secret@127.0.0.1:4222"), 0o600))
	c := &config.Config{NATSURL: "nats://127.0.0.1:4222", EmbeddedStoreDir: t.TempDir()}
	if got := natsconn.AsOperator(c).NATSURL; !strings.Contains(got, "operator:secret@") {
		t.Errorf("our own demo: %s", got)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	must(t, os.Chown(file, 12345, 12345))
	if got := natsconn.AsOperator(c).NATSURL; got != c.NATSURL {
		t.Errorf("another user's file: %s", got)
	}
	c.EmbeddedStoreDir = store
	if got := natsconn.AsOperator(c).NATSURL; !strings.Contains(got, "operator:secret@") {
		t.Errorf("embedded.store_dir, of the service's user: %s", got)
	}
}
