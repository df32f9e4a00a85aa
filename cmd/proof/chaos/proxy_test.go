package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

const patience = 30 * time.Second

// startEcho starts a server that sends back every byte.
func startEcho(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	p, err := openProxy(startEcho(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sendAndReceive sends a line and expects it back.
func sendAndReceive(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, text); err != nil {
		t.Fatal(err)
	}
	receive(t, c, text)
}

func receive(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(text)+1)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text+"\n" {
		t.Fatalf("received %q, %v; want %q", got, err, text)
	}
}

// receiveNothing expects that nothing arrives for a moment and the connection stays.
func receiveNothing(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want nothing", n, err)
	}
}

func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end of the connection", n, err)
	}
}

func TestProxyDelays(t *testing.T) {
	p := startProxy(t)
	p.impair(1, impairment{kind: delayed, delay: time.Millisecond})
	c := dial(t, p)
	sent := bytes.Repeat([]byte("settled\n"), 100_000)
	go func() { _, _ = c.Write(sent) }()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(bufio.NewReader(c), got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("received other bytes than were sent: %v", err)
	}
}

func TestProxyStalls(t *testing.T) {
	p := startProxy(t)
	c := dial(t, p)
	sendAndReceive(t, c, "before")
	p.impair(1, impairment{kind: stalled})
	_, _ = fmt.Fprintln(c, "meanwhile")
	receiveNothing(t, c)
	p.impair(2, impairment{kind: stalled})
	p.restore(1)
	receiveNothing(t, c)
	p.restore(2)
	receive(t, c, "meanwhile")
	sendAndReceive(t, c, "after")
}

func TestProxyRefuses(t *testing.T) {
	p := startProxy(t)
	c := dial(t, p)
	sendAndReceive(t, c, "before")
	p.impair(1, impairment{kind: refused})
	expectEnd(t, c)
	expectEndAtOnce(t, p)
	p.restore(1)
	sendAndReceive(t, dial(t, p), "after")
}

func TestProxySilence(t *testing.T) {
	p := startProxy(t)
	open := dial(t, p)
	sendAndReceive(t, open, "before")
	p.impair(1, impairment{kind: silent})
	during := dial(t, p)
	for _, c := range []net.Conn{open, during} {
		_, _ = fmt.Fprintln(c, "lost")
		receiveNothing(t, c)
	}
	p.restore(1)
	for _, c := range []net.Conn{open, during} {
		_, _ = fmt.Fprintln(c, "lost too")
		receiveNothing(t, c)
	}
	sendAndReceive(t, dial(t, p), "after")
}

func TestProxyCuts(t *testing.T) {
	p := startProxy(t)
	c := dial(t, p)
	sendAndReceive(t, c, "before")
	p.cut()
	expectEnd(t, c)
	sendAndReceive(t, dial(t, p), "after")
}

func TestProxyWithoutTarget(t *testing.T) {
	p, err := openProxy("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	expectEndAtOnce(t, p)
}

// expectEndAtOnce expects a reset while dialling or after it.
func expectEndAtOnce(t *testing.T, p *proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	expectEnd(t, c)
}
