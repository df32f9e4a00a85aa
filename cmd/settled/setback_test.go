package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/ledger"
	"settled/settlement"
)

// overwrite copies files over those of a folder, and deletes what the copy doesn't have:
// what cp -a and rsync --delete do.
func overwrite(t *testing.T, dir, from string) {
	t.Helper()
	for _, walk := range []struct{ in, other string }{{dir, from}, {from, dir}} {
		if err := filepath.WalkDir(walk.in, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name, err := filepath.Rel(walk.in, path)
			if err != nil {
				return err
			}
			other := filepath.Join(walk.other, name)
			if walk.in == dir {
				if _, err := os.Stat(other); os.IsNotExist(err) {
					return os.Remove(path)
				}
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(other), 0o700); err != nil {
				return err
			}
			return os.WriteFile(other, text, 0o600)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// embeddedHost is where `settled serve --embedded` runs, as a process.
type embeddedHost struct {
	*deployment
	store, state, nats, http string
	process                  *exec.Cmd
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func newEmbeddedHost(t *testing.T) *embeddedHost {
	d := deploy(t)
	e := &embeddedHost{deployment: d, store: filepath.Join(d.dir, "store"), state: filepath.Join(d.dir, "state"), nats: freeAddr(t), http: freeAddr(t)}
	d.nats.Close()
	d.cfg.NATSURL, d.cfg.EmbeddedStoreDir = "nats://"+e.nats, e.store
	t.Cleanup(e.kill)
	return e
}

func (e *embeddedHost) start(flags ...string) {
	e.t.Helper()
	file := filepath.Join(e.dir, "embedded.yaml")
	e.must(os.WriteFile(file, fmt.Appendf(nil, `
nats: {state_dir: %q}
embedded: {enabled: true, store_dir: %q, listen: %q}
clearnode: {url: %q, key_files: [%q], message_expiry: %s, request_validity: %s, fence_margin: %s, connections: 2, request_timeout: 300ms}
consumer: {backoff: {initial: 100ms, max: 300ms}}
http: {listen: %q}
log: {level: warn}
`, e.state, e.store, e.nats, e.cfg.NodeURL, e.cfg.NodeKeyFiles[0], testExpiry, testValidity, testMargin, e.http), 0o600))
	self, err := os.Executable()
	e.must(err)
	e.process = exec.Command(self, append([]string{"serve", "--config", file}, flags...)...) // #nosec G204 -- ourselves
	e.process.Env = append(os.Environ(), runAsSettled+"=1")
	e.process.Stderr = zerolog.NewTestWriter(e.t)
	e.must(e.process.Start())
	e.until("it is up", func() bool { _, body := e.readyz(); return strings.Contains(body, "{") })
	e.until("its NATS is up", func() bool {
		var err error
		e.deployment.nats, err = natsconn.Connect(natsconn.AsOperator(&e.cfg), "test", false)
		return err == nil
	})
}

func (e *embeddedHost) end(signal os.Signal) {
	if e.process == nil {
		return
	}
	e.deployment.nats.Close()
	_ = e.process.Process.Signal(signal)
	_ = e.process.Wait()
	e.process = nil
}

func (e *embeddedHost) kill() { e.end(os.Kill) }

func (e *embeddedHost) readyz() (status int, body string) {
	answer, err := http.Get("http://" + e.http + "/readyz")
	if err != nil {
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

func (e *embeddedHost) ready() {
	e.until("it is ready", func() bool { status, _ := e.readyz(); return status == http.StatusOK })
}

// TestQuickRestartIsNotHeld: a store that nobody touched holds nothing, however the
// process ended, and with or without a folder outside it.
func TestQuickRestartIsNotHeld(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"", service.StateDirNone} {
		e := newEmbeddedHost(t)
		if state != "" {
			e.state = state
		}
		for i, signal := range []os.Signal{os.Interrupt, os.Kill, os.Interrupt} {
			e.start()
			e.ready()
			session := e.open()
			if entry := e.result(session, e.publish("partial_service", fmt.Sprint(i), session, e.partial())); entry.State != settlement.EntryClosed {
				t.Errorf("%+v", entry)
			}
			if _, body := e.readyz(); strings.Contains(body, "held") {
				t.Errorf("start %d: %s", i, body)
			}
			e.end(signal)
		}
	}
}

// TestStoreSetBackWhileStopped: the store is restored from an older copy to a copy while a
// close is at work and nothing runs. The same outcome comes again: no second close is sent
// before the first can no longer take effect.
func TestStoreSetBackWhileStopped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		restore func(t *testing.T, e *embeddedHost, backup string)
		state   string
		wait    bool // until it is over
	}{
		"deleted and copied back": {func(t *testing.T, e *embeddedHost, backup string) {
			e.must(os.RemoveAll(e.store))
			e.must(os.CopyFS(e.store, os.DirFS(backup)))
		}, "", true},
		"renamed in its place": {func(t *testing.T, e *embeddedHost, backup string) {
			e.must(os.Rename(e.store, e.store+".bad"))
			e.must(os.Rename(backup, e.store))
		}, service.StateDirNone, false},
		"copied over it":                  {func(t *testing.T, e *embeddedHost, backup string) { overwrite(t, e.store, backup) }, "", false},
		"copied over it, nothing outside": {func(t *testing.T, e *embeddedHost, backup string) { overwrite(t, e.store, backup) }, service.StateDirNone, false},
		"the ledger alone, nothing outside": {func(t *testing.T, e *embeddedHost, backup string) {
			found, err := filepath.Glob(filepath.Join(backup, "jetstream", "*", "streams", "SETTLEMENTS"))
			e.must(err)
			name, err := filepath.Rel(backup, found[0])
			e.must(err)
			overwrite(t, filepath.Join(e.store, name), found[0])
		}, service.StateDirNone, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbeddedHost(t)
			if c.state != "" {
				e.state = c.state
			}
			e.start()
			e.ready()
			first := e.open()
			e.result(first, e.publish("partial_service", "first", first, e.partial()))
			e.end(os.Interrupt)
			backup := filepath.Join(e.dir, "backup")
			e.must(os.CopyFS(backup, os.DirFS(e.store)))
			time.Sleep(2 * time.Second) // the copy is older than the record's slack
			e.start()
			e.ready()
			release, struck := make(chan struct{}), make(chan struct{}, 1)
			session := e.open()
			e.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Stall, Release: release, Struck: struck})
			e.publish("partial_service", "x", session, e.partial())
			<-struck
			e.node.DropConnections()
			e.kill()
			c.restore(t, e, backup)
			e.start()
			e.until("sending is held", func() bool {
				status, body := e.readyz()
				return status == http.StatusServiceUnavailable && strings.Contains(body, "settled was stopped")
			})
			sequence := e.publish("partial_service", "x", session, e.partial())
			e.kill() // a restart while it is held
			e.start()
			e.until("sending is still held", func() bool { _, body := e.readyz(); return strings.Contains(body, "settled was stopped") })
			if n := len(e.node.Closes(string(session))); n != 1 {
				t.Errorf("%d closes were sent", n)
			}
			close(release)
			if !c.wait {
				return
			}
			e.result(session, sequence)
			if n := len(e.node.Closes(string(session))); n != 1 {
				t.Errorf("%d closes were sent in the end", n)
			}
			e.verify(2)
		})
	}
}

// TestAfterRestore: the flag holds for one fence period and then ends by itself.
func TestAfterRestore(t *testing.T) {
	t.Parallel()
	e := newEmbeddedHost(t)
	e.start("--after-restore")
	e.until("it says so", func() bool { _, body := e.readyz(); return strings.Contains(body, "--after-restore") })
	session := e.open()
	sequence := e.publish("partial_service", "x", session, e.partial())
	if n := len(e.node.Closes(string(session))); n != 0 {
		t.Errorf("%d closes were sent", n)
	}
	e.result(session, sequence)
	e.ready()
}

// TestLedgerSetBackOutside: the ledger's stream is restored from a snapshot while
// settled is stopped, on a NATS of others.
func TestLedgerSetBackOutside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ forget bool }{"remembered": {false}, "nothing is remembered, as on another host": {true}} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.cfg.NATSStateDir = filepath.Join(d.dir, "state")
			d.cfg.NodeRequestTimeout = 300 * time.Millisecond
			d.cfg.ConsumerBackoffInitial, d.cfg.ConsumerBackoffMax = 100*time.Millisecond, 300*time.Millisecond
			_, stop := d.serve()
			first := d.open()
			d.result(first, d.publish("partial_service", "first", first, d.partial()))
			copied := takeSnapshot(t, d.nats.Conn, ledger.StreamName(""))
			time.Sleep(11 * time.Second) // the copy is older than the ledger may be
			release, struck := make(chan struct{}), make(chan struct{}, 1)
			session := d.open()
			d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Stall, Release: release, Struck: struck})
			sequence := d.publish("partial_service", "x", session, d.partial())
			<-struck
			d.node.DropConnections()
			stop()
			d.must(d.nats.JS.DeleteStream(t.Context(), ledger.StreamName("")))
			copied.restore(t, d.nats.Conn)
			if c.forget {
				d.must(os.RemoveAll(d.cfg.NATSStateDir))
			}
			s, _ := d.begin()
			d.until("sending is held", func() bool { return s.Held(service.HeldByLoss) || s.Held(service.HeldByRestore) })
			if n := len(d.node.Closes(string(session))); n != 1 {
				t.Errorf("%d closes were sent", n)
			}
			close(release)
			if !c.forget {
				d.result(session, sequence)
				d.verify(2)
			}
		})
	}
}
