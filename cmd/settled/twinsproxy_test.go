package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// natsProxy stands between settled and its NATS server. It reads what both say
// frame by frame, and does to chosen requests what networks and servers do to them.
type natsProxy struct {
	url      string
	server   string // host:port
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	pipes  map[*natsPipe]bool
	rules  []*natsRule
}

// natsRule is something going wrong, once, with the first request that it matches.
type natsRule struct {
	hits   func(natsFrame) bool
	wrong  twinFault
	hold   time.Duration // of the slow ones
	struck chan struct{} // closed when it strikes
}

// proxyNATS starts a proxy, which ends with the test.
func proxyNATS(t *testing.T, serverURL string) *natsProxy {
	t.Helper()
	server, err := url.Parse(serverURL)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &natsProxy{url: "nats://" + listener.Addr().String(), server: server.Host, listener: listener, pipes: map[*natsPipe]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *natsProxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for pipe := range p.pipes {
		pipe.cut()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *natsProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		pipe := &natsPipe{proxy: p, client: client, server: server, subs: map[string]string{}, gone: make(chan struct{})}
		p.mu.Lock()
		p.pipes[pipe] = true
		late := p.closed
		p.mu.Unlock()
		if late {
			pipe.cut()
		}
		p.running.Go(func() { pipe.run(client, pipe.fromClient) })
		p.running.Go(func() { pipe.run(server, pipe.fromServer) })
	}
}

// addFlags makes a rule known. The channel is closed when it strikes.
func (p *natsProxy) add(wrong twinFault, hold time.Duration, hits func(natsFrame) bool) <-chan struct{} {
	r := &natsRule{hits: hits, wrong: wrong, hold: hold, struck: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r.struck
}

// strike uses up the first rule that matches.
func (p *natsProxy) strike(f natsFrame) *natsRule {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range p.rules {
		if r.hits(f) {
			p.rules = append(p.rules[:i:i], p.rules[i+1:]...)
			close(r.struck)
			return r
		}
	}
	return nil
}

// natsPipe is one connection, seen from between its ends.
type natsPipe struct {
	proxy          *natsProxy
	client, server net.Conn
	gone           chan struct{}
	once           sync.Once

	mu      sync.Mutex        // one writer at a time, and the two below
	subs    map[string]string // subject by subscription id
	answers []natsAnswer
}

// natsAnswer is what becomes of an answer that is awaited from the server.
type natsAnswer struct {
	is func(natsFrame) bool
	do func(natsFrame)
}

func (p *natsPipe) run(from net.Conn, take func(natsFrame)) {
	defer p.cut()
	reader := bufio.NewReader(from)
	for {
		f, err := readNATS(reader)
		if err != nil {
			return
		}
		take(f)
	}
}

// cut ends the connection, for both sides at once.
func (p *natsPipe) cut() {
	p.once.Do(func() {
		close(p.gone)
		_ = p.client.Close()
		// What was written to the server is still read by it.
		_ = p.server.(*net.TCPConn).CloseWrite()
		p.proxy.running.Go(func() {
			_ = p.server.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _ = io.Copy(io.Discard, p.server)
			_ = p.server.Close()
		})
	})
}

func (p *natsPipe) write(to net.Conn, raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = to.Write(raw) // a side that is gone is noticed by its reader
}

func (p *natsPipe) fromClient(f natsFrame) {
	if f.verb == "SUB" {
		p.mu.Lock()
		p.subs[f.fields[len(f.fields)-1]] = f.fields[1]
		p.mu.Unlock()
	}
	if f.verb != "PUB" && f.verb != "HPUB" {
		p.write(p.server, f.raw)
		return
	}
	if r := p.proxy.strike(f); r != nil {
		p.spoil(r, f)
		return
	}
	p.write(p.server, f.raw)
}

// spoil does to a request what its rule says.
func (p *natsPipe) spoil(r *natsRule, f natsFrame) {
	switch r.wrong {
	case notApplied:
		p.refuse(f)
	case yetApplied:
		p.await(f, func(natsFrame) { p.refuse(f) })
		p.write(p.server, f.raw)
	case slowRequest:
		p.later(r.hold, func() { p.write(p.server, f.raw) })
	case slowAnswer:
		p.await(f, func(a natsFrame) { p.later(r.hold, func() { p.write(p.client, a.raw) }) })
		p.write(p.server, f.raw)
	case cutBefore:
		p.cut()
	case cutAfter:
		p.await(f, func(natsFrame) { p.cut() })
		p.write(p.server, f.raw)
		if f.reply == "" {
			p.cut()
		}
	}
}

func (p *natsPipe) later(hold time.Duration, do func()) {
	p.proxy.running.Go(func() {
		select {
		case <-p.gone:
		case <-time.After(hold):
			do()
		}
	})
}

// await takes the answer of a request from the server. That of a request for
// messages is the next message.
func (p *natsPipe) await(f natsFrame, do func(natsFrame)) {
	is := func(a natsFrame) bool { return a.subject == f.reply }
	if f.asksForMessages() {
		is = func(a natsFrame) bool { return strings.HasPrefix(a.reply, "$JS.ACK.") }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, natsAnswer{is, do})
}

func (p *natsPipe) fromServer(f natsFrame) {
	if do := p.awaited(f); do != nil {
		do(f)
		return
	}
	p.write(p.client, f.raw)
}

func (p *natsPipe) awaited(f natsFrame) func(natsFrame) {
	if f.verb != "MSG" && f.verb != "HMSG" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range p.answers {
		if a.is(f) {
			p.answers = append(p.answers[:i:i], p.answers[i+1:]...)
			return a.do
		}
	}
	return nil
}

// refuse answers a request as a server does that can't serve it now. A message that
// wants no answer is only lost.
func (p *natsPipe) refuse(f natsFrame) {
	if f.reply == "" {
		return
	}
	sid := p.subscription(f.reply)
	status := "NATS/1.0 503\r\n\r\n" // no responders
	switch {
	case f.asksForMessages():
		status = "NATS/1.0 409 Leadership Change\r\n\r\n"
	case !strings.HasPrefix(f.subject, "$JS.ACK."):
		text := `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
		p.write(p.client, fmt.Appendf(nil, "MSG %s %s %d\r\n%s\r\n", f.reply, sid, len(text), text))
		return
	}
	p.write(p.client, fmt.Appendf(nil, "HMSG %s %s %d %d\r\n%s\r\n", f.reply, sid, len(status), len(status), status))
}

// subscription is the client's own that takes a subject.
func (p *natsPipe) subscription(subject string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for sid, of := range p.subs {
		if of == subject || strings.HasSuffix(of, ".*") && strings.HasPrefix(subject, strings.TrimSuffix(of, "*")) {
			return sid
		}
	}
	return "0"
}
