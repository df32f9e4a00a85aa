// Package natstest has what tests on NATS share: servers of their own, outcome messages,
// and a log that can be read.
package natstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Patience is how long a test waits for what must happen.
const Patience = 3 * time.Minute

// StartServer starts a JetStream server that ends with the test.
func StartServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	return start(t, server.RANDOM_PORT, t.TempDir(), change)
}

// Restart stops the server and starts it again on the same port and store.
func Restart(t testing.TB, s *server.Server, change ...func(*server.Options)) *server.Server {
	t.Helper()
	return RestartAfter(t, s, func() {}, change...)
}

// RestartAfter is Restart with something that happens while the server is stopped.
func RestartAfter(t testing.TB, s *server.Server, meanwhile func(), change ...func(*server.Options)) *server.Server {
	t.Helper()
	return restart(t, s, func(string) { meanwhile() }, change)
}

// Backup copies the server's store. The server is restarted for that, and again by the
// function that it returns, which brings the copy back.
func Backup(t testing.TB, s *server.Server, change ...func(*server.Options)) (again *server.Server, restore func(*server.Server) *server.Server) {
	t.Helper()
	backup := filepath.Join(t.TempDir(), "backup")
	again = restart(t, s, func(store string) { OK(t, os.CopyFS(backup, os.DirFS(store))) }, change)
	return again, func(s *server.Server) *server.Server {
		return restart(t, s, func(store string) {
			OK(t, os.RemoveAll(store))
			OK(t, os.CopyFS(store, os.DirFS(backup)))
		}, change)
	}
}

// Stop stops the server.
func Stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func restart(t testing.TB, s *server.Server, stopped func(store string), change []func(*server.Options)) *server.Server {
	t.Helper()
	port, store := s.Addr().(*net.TCPAddr).Port, filepath.Dir(s.StoreDir())
	Stop(s)
	stopped(store)
	return start(t, port, store, change)
}

func start(t testing.TB, port int, store string, change []func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: store, NoLog: true, NoSigs: true}
	for _, f := range change {
		f(options)
	}
	s := Must(server.NewServer(options))
	s.Start()
	t.Cleanup(func() { Stop(s) })
	if !s.ReadyForConnections(Patience) {
		t.Fatal("the server doesn't start")
	}
	return s
}

// OK ends the test at an error.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Must returns the value, and panics at an error.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Connect connects to the server until the test ends.
func Connect(t testing.TB, s *server.Server, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc := Must(nats.Connect(s.ClientURL(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))...))
	t.Cleanup(nc.Close)
	return Must(jetstream.New(nc))
}

// Eventually repeats do until it succeeds: for a moment after a stream was deleted, the
// server refuses to create it again.
func Eventually(t testing.TB, do func() error) {
	t.Helper()
	err := do()
	for deadline := time.Now().Add(Patience); err != nil && time.Now().Before(deadline); err = do() {
		<-time.After(5 * time.Millisecond)
	}
	OK(t, err)
}

// Header returns a header of names and values in turn.
func Header(pairs ...string) nats.Header {
	h := nats.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// Session is the session of outcome 1.
const Session = "0xabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"

// SessionOf returns a session that only this outcome has.
func SessionOf(id string) string {
	if id == "1" {
		return Session
	}
	return fmt.Sprintf("0x%x", sha256.Sum256([]byte(id)))
}

// EventOf returns an outcome event.
func EventOf(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"outcome.cancellation","data":{"session_id":%q}}`, id, SessionOf(id))
}

// LogBuffer is a log that can be read while it is written.
type LogBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the log.
func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the log.
func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Events returns the log's events with this message.
func (l *LogBuffer) Events(t *testing.T, message string) []map[string]any {
	t.Helper()
	var events []map[string]any
	for text := range bytes.Lines([]byte(l.String())) {
		var e map[string]any
		OK(t, json.Unmarshal(text, &e))
		if e["message"] == message {
			events = append(events, e)
		}
	}
	return events
}
