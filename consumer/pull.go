package consumer

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"settled/ledger/streamreader"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	pullExpiry    = 30 * time.Second              // how long a request stays open at the server
	pullHeartbeat = 5 * time.Second               // how often the server confirms that it is open
	pullSilence   = 2*pullHeartbeat + time.Second // without a confirmation, it counts as lost
)

// pull requests messages of the durable consumer, one request at a time (JetStream wire
// API, $JS.API.CONSUMER.MSG.NEXT). The client library's Consume is unsuitable: it takes a
// message with an empty payload and a Status header for a control message, and would never
// deliver an outcome that was published like that.
//
// One goroutine owns it, which reads the messages of the subscription from received.
type pull struct {
	nc       *nats.Conn
	subject  string // of the API
	inbox    string
	sub      *nats.Subscription
	received chan *nats.Msg
	closed   chan struct{} // closed after the last message
	gone     chan struct{} // closed when received is no longer read

	requests int         // made so far
	open     int         // how many messages the open request may still bring; 0: none is open
	silence  *time.Timer // of the open request
}

func openPull(js jetstream.JetStream, prefix, durable string, room int) (*pull, error) {
	nc := js.Conn()
	p := &pull{
		nc: nc, subject: NextSubject(js, prefix, durable), inbox: nc.NewInbox(),
		received: make(chan *nats.Msg, room), closed: make(chan struct{}), gone: make(chan struct{}),
		silence: time.NewTimer(pullSilence),
	}
	sub, err := nc.Subscribe(p.inbox+".*", func(m *nats.Msg) {
		select {
		case p.received <- m:
		case <-p.gone:
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	// The closed handler runs after the last message was passed on. The requests bound
	// the number of messages, not the library's limits for slow readers.
	sub.SetClosedHandler(func(string) { close(p.closed) })
	p.sub = sub
	return p, sub.SetPendingLimits(-1, -1)
}

// NextSubject is the API subject on which messages of the durable consumer are requested.
func NextSubject(js jetstream.JetStream, prefix, durable string) string {
	return streamreader.APIPrefix(js) + "CONSUMER.MSG.NEXT." + OutcomesStream(prefix) + "." + durable
}

// request requests up to n messages.
func (p *pull) request(n int) error {
	body, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{n, pullExpiry, pullHeartbeat})
	if err != nil {
		return err
	}
	p.requests++
	if err := p.nc.PublishRequest(p.subject, p.reply(), body); err != nil {
		return fmt.Errorf("request messages: %w", err)
	}
	p.open = n
	p.silence.Reset(pullSilence)
	return nil
}

// reply is the reply subject of the last request.
func (p *pull) reply() string { return fmt.Sprintf("%s.%d", p.inbox, p.requests) }

func (p *pull) outcomeReceived() {
	p.open = max(p.open-1, 0)
	p.silence.Reset(pullSilence)
}

// control handles a control message and returns its text if it ends the open request for a
// reason that the monitor should examine. Those of earlier requests are ignored.
func (p *pull) control(m *nats.Msg) (reason string) {
	if m.Subject != p.reply() {
		return ""
	}
	p.silence.Reset(pullSilence)
	switch status := m.Header.Get("Status"); status {
	case "100": // heartbeat
		return ""
	case "404", "408": // no messages, expired
		p.open = 0
		return ""
	default:
		p.open = 0
		return strings.TrimSpace(status + " " + m.Header.Get("Description"))
	}
}

// withdraw ends the subscription, upon which the server forgets the request. Messages on
// their way are still received before closed is closed.
//
// Without a connection there are none, and a drain would fail: on reconnecting the client
// library renews a subscription that is being drained and then forgets it, so that the
// server would answer the old request to nobody.
func (p *pull) withdraw() {
	p.open = 0
	if !p.nc.IsConnected() || p.sub.Drain() != nil {
		_ = p.sub.Unsubscribe() // of a closed connection: it is closed as well
	}
}

// abandon ends the subscription without waiting for its messages.
func (p *pull) abandon() {
	close(p.gone)
	p.silence.Stop()
	_ = p.sub.Unsubscribe()
}
