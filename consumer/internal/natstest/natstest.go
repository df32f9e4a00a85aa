// Package natstest has what the tests of consumer and its sub-packages share: NATS servers
// of their own, outcome messages, and a log that can be read.
package natstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
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
func StartServer(t *testing.T) *server.Server {
	t.Helper()
	return start(t, server.RANDOM_PORT, t.TempDir())
}

// Restart stops the server and starts it again on the same port and store.
func Restart(t *testing.T, s *server.Server) *server.Server {
	t.Helper()
	port, store := s.Addr().(*net.TCPAddr).Port, filepath.Dir(s.StoreDir())
	s.Shutdown()
	s.WaitForShutdown()
	return start(t, port, store)
}

func start(t *testing.T, port int, store string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: store, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(Patience) {
		t.Fatal("the server doesn't start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// Connect connects to the server until the test ends.
func Connect(t *testing.T, s *server.Server, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Eventually repeats do until it succeeds: for a moment after a stream was deleted, the
// server refuses to create it again.
func Eventually(t *testing.T, do func() error) {
	t.Helper()
	err := do()
	for deadline := time.Now().Add(Patience); err != nil && time.Now().Before(deadline); err = do() {
		<-time.After(5 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
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
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("log line %s: %v", text, err)
		}
		if e["message"] == message {
			events = append(events, e)
		}
	}
	return events
}
