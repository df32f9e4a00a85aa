package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/ledger"
)

// right is something that settled's user at NATS must be allowed to send.
type right struct {
	// subjects are tried one after the other until one is allowed. On none of them
	// anything that settled uses would come of the message.
	subjects []string
	allow    string // what the server's configuration is to allow
	need     string // what for
	lesser   bool   // settled runs without it
}

// inboxWait bounds one round trip to the server.
const inboxWait = 3 * time.Second

// mayHear reports whether answers reach us: without them everything times out.
func (d *doctor) mayHear() bool {
	if err := d.hears(d.nats.NewInbox()); err != nil {
		d.fail("nats.rights", `subscribe: ["_INBOX.>"]`+" in the permissions of settled's user", "answers don't reach settled: %s", err)
		return false
	}
	operations := consumer.OperationSubject(d.cfg.natsPrefix, "*")
	if err := d.hears(operations); err != nil {
		d.warn("nats.rights", fmt.Sprintf("subscribe: [%q] in the permissions of settled's user", operations), "settled hears of a stop late: %s", err)
	}
	return true
}

// hears is nil where a subject may be subscribed to.
func (d *doctor) hears(subject string) error {
	nc := d.nats.Conn
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushTimeout(inboxWait); err != nil {
		return err
	}
	last := nc.LastError()
	if errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), strconv.Quote(subject)) {
		return last
	}
	return nil
}

// rights tries what serve needs, by messages that no stream can store and no part
// of the server can read. It returns the parts of the API that are denied.
func (d *doctor) rights() (denied map[string]bool) {
	denied = map[string]bool{}
	n := 0
	for _, r := range d.neededRights() {
		allowed, err := d.may(r.subjects)
		switch {
		case err != nil:
			d.fail("nats.rights", "", "%s", err)
			return denied
		case allowed:
			n++
			continue
		}
		denied[strings.TrimPrefix(r.subjects[0], d.apiPrefix())] = true
		advice := fmt.Sprintf("publish: [%q] in the permissions of settled's user", r.allow)
		if r.lesser {
			d.warn("nats.rights", advice, "settled may not publish to %s: %s", r.allow, r.need)
		} else {
			d.fail("nats.rights", advice, "settled may not publish to %s: %s", r.allow, r.need)
		}
	}
	d.others(n, len(denied))
	return denied
}

func (d *doctor) others(allowed, denied int) {
	if denied == 0 {
		d.ok("nats.rights", "settled may do all it needs (%d subjects tried)", allowed)
	}
}

func (d *doctor) neededRights() []right {
	prefix, api := d.cfg.natsPrefix, d.apiPrefix()
	outcomes, letters, settlements := consumer.OutcomesStream(prefix), consumer.DeadLettersStream(prefix), ledger.StreamName(prefix)
	durable := outcomes + "." + d.cfg.consumerDurable
	rights := []right{
		{[]string{prefix + "settlement.doctor", prefix + "settlement.doctor.doctor"}, prefix + "settlement.>", "it could record nothing", false},
		{[]string{prefix + "deadletter.doctor.doctor", consumer.DeadLetterSubject(prefix, "doctor")}, prefix + "deadletter.>", "it could keep no dead letter", false},
		{[]string{prefix + "operation.doctor.doctor", consumer.OperationSubject(prefix, "doctor")}, prefix + "operation.>", "it could not stop the others where the node overpays", true},
		{[]string{prefix + "cosign.doctor"}, prefix + "cosign.*", "it could ask nobody for a co-signature", true},
		{[]string{"$JS.ACK." + durable + ".doctor"}, "$JS.ACK.>", "outcomes would come again for ever", false},
		{[]string{api + "CONSUMER.MSG.NEXT." + durable}, api + "CONSUMER.MSG.NEXT.>", "it could take no outcomes", false},
		{[]string{api + "CONSUMER.INFO." + durable}, api + "CONSUMER.INFO.>", "it could not verify its consumer", false},
		{[]string{api + "STREAM.MSG.GET." + settlements}, api + "STREAM.MSG.GET.>", "it could not read the ledger", false},
		{[]string{api + "STREAM.MSG.GET." + consumer.OperationsStream(prefix)}, api + "STREAM.MSG.GET.>", "it could not see whether somebody stopped it", false},
		{[]string{api + "INFO"}, api + "INFO", "the account's storage can't be watched", true},
	}
	for _, stream := range []string{outcomes, letters, consumer.OperationsStream(prefix), settlements} {
		rights = append(rights, right{[]string{api + "STREAM.INFO." + stream}, api + "STREAM.INFO.*", "it could not verify stream " + stream, false})
	}
	return rights
}

// apiPrefix begins the subjects of JetStream's API.
func (d *doctor) apiPrefix() string {
	if d.cfg.natsDomain != "" {
		return "$JS." + d.cfg.natsDomain + ".API."
	}
	return "$JS.API."
}

// noJSON is what is sent to the API: no request of it can be read from that.
const noJSON = "{"

// may reports whether one of the subjects may be published to. The message expects
// to be stored in a stream of a name that can't be, so that no stream stores it. A
// server says that it denies a message before it answers the ping after it.
func (d *doctor) may(subjects []string) (bool, error) {
	nc := d.nats.Conn
	for _, subject := range subjects {
		m := nats.NewMsg(subject)
		m.Header.Set("Nats-Expected-Stream", "*settled doctor*")
		m.Header.Set("Nats-Expected-Last-Sequence", strconv.Itoa(1<<53))
		m.Data, m.Reply = []byte(noJSON), nc.NewInbox()
		if err := nc.PublishMsg(m); err != nil {
			return false, fmt.Errorf("publish to %s: %w", subject, err)
		}
		if err := nc.FlushTimeout(inboxWait); err != nil {
			return false, fmt.Errorf("publish to %s: %w", subject, err)
		}
		last := nc.LastError()
		if !errors.Is(last, nats.ErrPermissionViolation) || !strings.Contains(last.Error(), strconv.Quote(subject)) {
			return true, nil
		}
	}
	return false, nil
}
