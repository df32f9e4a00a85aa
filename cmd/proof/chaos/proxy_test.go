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

// echo is a server that answers every byte with itself.
func echo(t *testing.T) string {
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

func through(t *testing.T) *proxy {
	t.Helper()
	p, err := openProxy(echo(t))
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

// said sends a line and demands it back.
func said(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, text); err != nil {
		t.Fatal(err)
	}
	heard(t, c, text)
}

func heard(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(text)+1)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text+"\n" {
		t.Fatalf("heard %q, %v; want %q", got, err, text)
	}
}

// nothing demands that nothing comes for a moment, and the connection stays.
func nothing(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
}

func ended(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the connection's end", n, err)
	}
}

func TestProxyPassesBytesWhole(t *testing.T) {
	p := through(t)
	p.strike(1, weather{kind: delayed, delay: time.Millisecond})
	c := dial(t, p)
	sent := bytes.Repeat([]byte("settled\n"), 100_000)
	go func() { _, _ = c.Write(sent) }()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(bufio.NewReader(c), got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("not what was sent came back: %v", err)
	}
}

func TestProxyStallsAndGoesOn(t *testing.T) {
	p := through(t)
	c := dial(t, p)
	said(t, c, "before")
	p.strike(1, weather{kind: stalled})
	_, _ = fmt.Fprintln(c, "meanwhile")
	nothing(t, c)
	p.strike(2, weather{kind: stalled})
	p.heal(1)
	nothing(t, c)
	p.heal(2)
	heard(t, c, "meanwhile")
	said(t, c, "after")
}

func TestProxyRefuses(t *testing.T) {
	p := through(t)
	c := dial(t, p)
	said(t, c, "before")
	p.strike(1, weather{kind: refused})
	ended(t, c)
	endedAtOnce(t, p)
	p.heal(1)
	said(t, dial(t, p), "after")
}

func TestProxyFallsSilentForGood(t *testing.T) {
	p := through(t)
	open := dial(t, p)
	said(t, open, "before")
	p.strike(1, weather{kind: silent})
	during := dial(t, p)
	for _, c := range []net.Conn{open, during} {
		_, _ = fmt.Fprintln(c, "lost")
		nothing(t, c)
	}
	p.heal(1)
	for _, c := range []net.Conn{open, during} {
		_, _ = fmt.Fprintln(c, "lost too")
		nothing(t, c)
	}
	said(t, dial(t, p), "after")
}

func TestProxyCuts(t *testing.T) {
	p := through(t)
	c := dial(t, p)
	said(t, c, "before")
	p.cut()
	ended(t, c)
	said(t, dial(t, p), "after")
}

func TestProxyWithoutTarget(t *testing.T) {
	p, err := openProxy("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	endedAtOnce(t, p)
}

// endedAtOnce: the reset may come while dialling, or after it.
func endedAtOnce(t *testing.T, p *proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	ended(t, c)
}
