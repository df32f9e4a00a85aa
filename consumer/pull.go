package consumer

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How long a request for messages stays open at the server, how often the server
// says that it still is, and after what silence it is taken for lost.
const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	pullSilence   = 2*pullHeartbeat + time.Second
)

// pull asks the durable for messages, one request at a time (JetStream wire API,
// $JS.API.CONSUMER.MSG.NEXT). The client library's Consume won't do: what has an
// empty payload and a Status header it takes for a control message, and so an
// outcome published like that would never be seen, and hold its place for ever.
// Here a message is an outcome where its reply says that it wants an
// acknowledgement, which publishers can't write.
//
// One goroutine owns it; what the subscription brings comes over arrived.
type pull struct {
	nc      *nats.Conn
	next    string // the API subject
	inbox   string
	sub     *nats.Subscription
	arrived chan *nats.Msg
	closed  chan struct{} // closed when nothing comes any more
	gone    chan struct{} // closed when nobody reads any more

	request int         // number of the last request
	left    int         // how many messages the open request may still bring; 0: none is open
	silence *time.Timer // of the open request
}

func openPull(js jetstream.JetStream, prefix, durable string, room int) (*pull, error) {
	nc := js.Conn()
	p := &pull{
		nc: nc, next: NextSubject(js, prefix, durable), inbox: nc.NewInbox(),
		arrived: make(chan *nats.Msg, room), closed: make(chan struct{}), gone: make(chan struct{}),
		silence: time.NewTimer(pullSilence),
	}
	sub, err := nc.Subscribe(p.inbox+".*", func(m *nats.Msg) {
		select {
		case p.arrived <- m:
		case <-p.gone:
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	// Closed comes after the last message was handed on. What may come is bounded
	// by what was asked for, not by the library's guess at a slow reader.
	sub.SetClosedHandler(func(string) { close(p.closed) })
	p.sub = sub
	return p, sub.SetPendingLimits(-1, -1)
}

// NextSubject is the API subject on which messages of the durable are asked for.
func NextSubject(js jetstream.JetStream, prefix, durable string) string {
	return apiPrefix(js.Options()) + "CONSUMER.MSG.NEXT." + OutcomesStream(prefix) + "." + durable
}

// apiPrefix is the subject under which this context's JetStream API answers.
func apiPrefix(o jetstream.JetStreamOptions) string {
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	default:
		return "$JS.API."
	}
}

// ask opens a request for up to n messages.
func (p *pull) ask(n int) error {
	body, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{n, pullExpiry, pullHeartbeat})
	if err != nil {
		return err
	}
	p.request++
	if err := p.nc.PublishRequest(p.next, p.replyTo(), body); err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	p.left = n
	p.silence.Reset(pullSilence)
	return nil
}

func (p *pull) replyTo() string { return fmt.Sprintf("%s.%d", p.inbox, p.request) }

// outcome is the message with its metadata, where m is one.
func outcome(m *nats.Msg) (*nats.MsgMetadata, bool) {
	meta, err := m.Metadata()
	return meta, err == nil
}

// took counts an outcome.
func (p *pull) took() {
	p.left = max(p.left-1, 0)
	p.silence.Reset(pullSilence)
}

// ended reads a control message: whether it ends the open request, and why where
// that is worth a look at the durable. Those of earlier requests count for nothing.
func (p *pull) ended(m *nats.Msg) (ended bool, why string) {
	status := m.Header.Get("Status")
	if m.Subject != p.replyTo() {
		return false, ""
	}
	p.silence.Reset(pullSilence)
	switch status {
	case "100": // heartbeat
		return false, ""
	case "404", "408": // nothing there, expired
		p.left = 0
		return true, ""
	default:
		p.left = 0
		return true, strings.TrimSpace(status + " " + m.Header.Get("Description"))
	}
}

// lost forgets the open request.
func (p *pull) lost() { p.left = 0 }

// withdraw ends the subscription, by which the server forgets the request; what
// is under way still comes, and then closed is closed.
//
// Without a connection nothing is under way, and a drain would be in vain: the
// client subscribes anew to what it drains when it reconnects, and then forgets it,
// so that the server would answer the old request to nobody.
func (p *pull) withdraw() {
	p.left = 0
	if !p.nc.IsConnected() || p.sub.Drain() != nil {
		_ = p.sub.Unsubscribe() // of a closed connection: closed as well
	}
}

// abandon lets the subscription go without waiting for it.
func (p *pull) abandon() {
	close(p.gone)
	p.silence.Stop()
	_ = p.sub.Unsubscribe()
}
