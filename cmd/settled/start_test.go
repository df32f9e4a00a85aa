package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A command whose end hangs is not waited for longer than the bound, and one that
// ends in time is.
func TestStopIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hang := make(chan struct{})
	defer close(hang)
	if err := runBounded(ctx, time.Millisecond, func() error { <-hang; return nil }); !errors.Is(err, errStopBound) {
		t.Errorf("a command that hangs: %v", err)
	}
	want := errors.New("its own")
	if err := runBounded(ctx, time.Hour, func() error { return want }); !errors.Is(err, want) {
		t.Errorf("a command that ends: %v", err)
	}
}

// What no waiting repairs ends a service at once, with the reason at level error.
func TestFatalStartErrorsAreLoggedAsErrors(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "bad.key")
	must(t, os.WriteFile(key, []byte("no key"), 0o600))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	for _, command := range []string{"serve", "cosign"} {
		for what, args := range map[string][]string{
			"clearnode.key_files":   {"--clearnode.url=ws://127.0.0.1:1/ws", "--clearnode.key_files=" + key},
			"clearnode.url":         {},
			"clearnode.protocol":    {"--clearnode.protocol=nitrorpc/9"},
			"log.level":             {"--log.level=loud"},
			"consumer.workers":      {"--consumer.workers=none"},
			"nats.credentials_file": {"--clearnode.url=ws://127.0.0.1:1/ws", "--clearnode.key_files=" + testKeyFile(t, dir), "--nats.credentials_file=/nowhere"},
			"embedded.listen":       {"--clearnode.url=ws://127.0.0.1:1/ws", "--clearnode.key_files=" + testKeyFile(t, dir), "--embedded.enabled=true", "--embedded.store_dir=" + t.TempDir(), "--embedded.listen=" + taken.Addr().String()},
			"http.listen":           {"--clearnode.url=ws://127.0.0.1:1/ws", "--clearnode.key_files=" + testKeyFile(t, dir), "--http.listen=nowhere:x"},
		} {
			if command == "cosign" && what == "embedded.listen" {
				continue // it has no server
			}
			var stderr lockedBuffer // a connection that ends may still log
			args = append([]string{command, "--nats.url=nats://127.0.0.1:1"}, args...)
			if status := runChecked(t.Context(), args, strings.NewReader(""), &bytes.Buffer{}, &stderr); status != exitFailed {
				t.Errorf("%q ends with %d", args, status)
			}
			if !loggedError(stderr.String(), what) {
				t.Errorf("%q logs nothing of %s at level error: %s", args, what, stderr.String())
			}
		}
	}
}

func testKeyFile(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "good.key")
	must(t, os.WriteFile(path, []byte(strings.Repeat("0", 63)+"3"), 0o600))
	return path
}

// loggedError reports whether a line of level error names what.
func loggedError(log, what string) bool {
	for line := range strings.Lines(log) {
		var e struct{ Level, Error string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Level == "error" && strings.Contains(e.Error, what) {
			return true
		}
	}
	return false
}
