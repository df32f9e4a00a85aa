package service

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
)

// TestRefusedWriteHoldsSending: what the server refuses beside a request counts at once.
func TestRefusedWriteHoldsSending(t *testing.T) {
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "settled", Password: "one", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"settlement.failed.*"}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	s := New(&config.Config{NATSURL: strings.Replace(ns.ClientURL(), "nats://", "nats://settled:one@", 1), ConsumerDurable: "settled"}, zerolog.Nop())
	if err := s.connectOnce(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.NATS.Shutdown)
	for deadline := time.Now().Add(time.Minute); !s.NATS.IsConnected() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	w := natsconn.NewPermissionWatch(s.NATS.JS, s.Cfg, zerolog.Nop())
	s.opened.Store(&streams{permissions: w})
	w.CheckAll(t.Context())
	if err := w.Problem(); err != nil {
		t.Fatalf("a permission that it has: %v", err)
	}
	if err := s.NATS.Publish("settlement.failed.unknown", nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); w.Problem() == nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := w.Problem(); err == nil || !strings.Contains(err.Error(), "the ledger can't be written") {
		t.Error(err)
	}
}
