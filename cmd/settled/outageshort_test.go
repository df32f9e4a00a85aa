package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Commands that read much lose NATS while they read: the server goes away, or its
// answers do. Each fails by itself with the reason, and at once when it is interrupted.
func TestCommandsLoseNATS(t *testing.T) {
	t.Parallel() // it waits more than it works
	d := deploy(t)
	d.serve()
	const letters = 100
	for i := range letters {
		d.publishRaw("cancellation", fmt.Appendf(nil, "garbage %d", i))
	}
	d.until("all have a dead letter", func() bool { return len(d.letters()) == letters })
	for _, c := range []struct {
		args      []string
		cut, runs bool // the server goes away; until it fails by itself
	}{
		{[]string{"ledger", "verify", "--no-node"}, true, true}, {[]string{"ledger", "list"}, true, false}, {[]string{"ledger", "list"}, false, false},
		{[]string{"ledger", "export"}, true, false}, {[]string{"reconcile", "--no-node"}, true, false}, {[]string{"deadletter", "replay", "--all"}, true, false},
	} {
		t.Run(fmt.Sprint(strings.Join(c.args, " "), " cut ", c.cut), func(t *testing.T) {
			t.Parallel() // it waits more than it works
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			lost := make(chan struct{})
			addr := losingProxy(t, d.server.Addr().String(), c.cut, lost)
			var stderr lockedBuffer
			status := make(chan int, 1)
			go func() {
				status <- runChecked(ctx, append(c.args, "--nats.url=nats://"+addr), strings.NewReader(""), io.Discard, &stderr)
			}()
			select {
			case <-lost:
			case s := <-status:
				t.Fatalf("ends with status %d before NATS is lost: %s", s, stderr.String())
			}
			if !c.runs {
				cancel()
			}
			select {
			case s := <-status:
				if s != exitFailed || stderr.String() == "" {
					t.Errorf("status %d: %s", s, stderr.String())
				}
			case <-time.After(patience):
				t.Error("it does not end")
			}
		})
	}
}

// losingProxy is the address of a proxy to a NATS server that takes the server away, or
// only its answers, after 20 KB of them, and closes lost then.
func losingProxy(t *testing.T, server string, cut bool, lost chan struct{}) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	const most = 20_000
	var passed atomic.Int64
	forward := func(client, upstream net.Conn) {
		defer func() { _ = client.Close(); _ = upstream.Close() }()
		go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
		buffer := make([]byte, 2048)
		for {
			n, err := upstream.Read(buffer)
			before := passed.Load()
			now := passed.Add(int64(n))
			if before < most && now >= most {
				close(lost)
			}
			switch {
			case err != nil, now >= most && cut:
				return
			case now < most:
				_, _ = client.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil || cut && passed.Load() >= most {
				_ = client.Close()
				continue
			}
			go forward(client, upstream)
		}
	}()
	return listener.Addr().String()
}
