package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
)

// permission is something that settled's user at NATS must be allowed to publish.
type permission struct {
	// subjects are tried in order until one is allowed. A message on them has no effect.
	subjects    []string
	allow       string // what to add to the server's configuration
	consequence string // the consequence of not having it
	optional    bool   // settled runs without it
}

// serverTimeout bounds one round trip to the server.
const serverTimeout = 3 * time.Second

// ofSettled names the only user that may have these permissions.
const ofSettled = " in the permissions of the user settled, and of no other (deploy/nats/settled.conf)"

// checkSubscriptions checks the subscriptions that settled needs. It reports false if no answers can
// be received.
func (d *Doctor) checkSubscriptions() bool {
	if err := d.trySubscribe(d.NATS.NewInbox()); err != nil {
		d.fail("nats.rights", natsconn.InboxAdvice(err), "no answers are received: %s", err)
		return false
	}
	if d.Cosign {
		return true
	}
	for _, heard := range []struct{ subject, late string }{
		{consumer.OperationSubject(d.Cfg.NATSPrefix, "*"), "settled learns of a stop late"},
		{"$JS.EVENT.ADVISORY.>", "settled learns late of outcomes that another client takes, and of changed streams"},
	} {
		if err := d.trySubscribe(heard.subject); err != nil {
			d.warn("nats.rights", fmt.Sprintf("subscribe: [%q]", heard.subject)+ofSettled, "%s: %s", heard.late, err)
		}
	}
	return true
}

// trySubscribe returns nil if a subject may be subscribed to.
func (d *Doctor) trySubscribe(subject string) error {
	nc := d.NATS.Conn
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushTimeout(serverTimeout); err != nil {
		return err
	}
	return natsconn.PermissionError(nc, subject)
}

// checkPermissions tries what serve needs, by messages without effect. It returns the denied
// parts of the API, and false if the user is evidently not settled's: then it doesn't
// advise to grant it settled's permissions.
func (d *Doctor) checkPermissions() (denied map[string]bool, settleds bool) {
	denied = map[string]bool{}
	needed := d.neededPermissions()
	var missing []permission
	for _, r := range needed {
		allowed, err := d.canPublish(r.subjects)
		if err != nil {
			d.fail("nats.rights", "", "%s", err)
			return denied, false
		}
		if !allowed {
			missing = append(missing, r)
			denied[strings.TrimPrefix(r.subjects[0], d.apiPrefix())] = true
		}
	}
	if len(missing) > len(needed)/2 {
		d.fail("nats.rights", notSettled, "the user of nats.url is not settled's: it may not publish %d of the %d subjects that settled needs, %s among them", len(missing), len(needed), missing[0].allow)
		return denied, false
	}
	for _, r := range missing {
		report := d.fail
		if r.optional {
			report = d.warn
		}
		report("nats.rights", fmt.Sprintf("publish: [%q]", r.allow)+ofSettled, "settled may not publish to %s: %s", r.allow, r.consequence)
	}
	if len(missing) == 0 {
		d.ok("nats.rights", "settled may do all it needs (%d subjects tried)", len(needed))
	}
	return denied, true
}

// notSettled is the advice if the configuration names another user.
const notSettled = "run doctor with the configuration of `settled serve`, whose nats.url names the user settled; a co-signer runs `settled doctor --cosign`"

func (d *Doctor) neededPermissions() []permission {
	prefix, api := d.Cfg.NATSPrefix, d.apiPrefix()
	outcomes, letters, operations, settlements := consumer.OutcomesStream(prefix), consumer.DeadLettersStream(prefix), consumer.OperationsStream(prefix), ledger.StreamName(prefix)
	durable := outcomes + "." + d.Cfg.ConsumerDurable
	rights := []permission{
		{[]string{prefix + "settlement.doctor", ledger.Subject(prefix, "doctor", "doctor")}, ledger.Subject(prefix, "*", "*"), "it could record nothing", false},
		{[]string{prefix + "deadletter.doctor.doctor", consumer.DeadLetterSubject(prefix, "doctor")}, prefix + "deadletter.*", "it could keep no dead letter", false},
		{[]string{prefix + "operation.doctor.doctor", consumer.OperationSubject(prefix, "doctor")}, prefix + "operation.*", "it could not stop the others where the node overpays", true},
		{[]string{prefix + "outcome.doctor"}, prefix + "outcome.*", "it could not publish an outcome again that another client took", true},
		{[]string{prefix + "cosign.doctor"}, prefix + "cosign.*", "it could ask nobody for a co-signature", true},
		{[]string{"$JS.ACK." + durable + ".doctor"}, "$JS.ACK." + durable + ".>", "outcomes would be delivered again for ever", false},
		{[]string{"$JS.ACK.doctor.doctor." + durable + ".doctor"}, "$JS.ACK.*.*." + durable + ".>", "outcomes would be delivered again for ever by a server that puts domain and account into this subject", true},
		{[]string{api + "CONSUMER.MSG.NEXT." + durable}, api + "CONSUMER.MSG.NEXT." + durable, "it could take no outcomes", false},
		{[]string{api + "CONSUMER.INFO." + durable}, api + "CONSUMER.INFO." + durable, "it could not verify its consumer", false},
		{[]string{api + "STREAM.MSG.DELETE." + letters}, api + "STREAM.MSG.DELETE." + letters, "its dashboard could neither replay nor discard", true},
		{[]string{api + "INFO"}, api + "INFO", "the account's storage can't be watched", true},
	}
	for _, read := range []struct{ stream, need string }{
		{settlements, "it could not read the ledger"}, {operations, "it could not see whether sending is stopped"},
		{outcomes, "it could not read an outcome again"}, {letters, "its dashboard could show no dead letter"},
	} {
		stream := read.stream
		rights = append(rights,
			permission{[]string{api + "STREAM.INFO." + stream}, api + "STREAM.INFO." + stream, "it could not verify stream " + stream, false},
			permission{[]string{api + "STREAM.MSG.GET." + stream}, api + "STREAM.MSG.GET." + stream, read.need, false})
		if d.Cfg.NATSManageStreams {
			rights = append(rights, permission{[]string{api + "STREAM.CREATE." + stream}, api + "STREAM.CREATE." + stream, "it could not create stream " + stream, true})
		}
	}
	if d.Cfg.NATSManageStreams {
		rights = append(rights, permission{[]string{api + "CONSUMER.CREATE." + durable + ".doctor"}, api + "CONSUMER.CREATE." + durable + ".>", "it could not create its consumer", true})
	}
	return rights
}

// apiPrefix begins the subjects of JetStream's API.
func (d *Doctor) apiPrefix() string {
	if d.NATS.Domain != "" {
		return "$JS." + d.NATS.Domain + ".API."
	}
	return "$JS.API."
}

// canPublish reports whether one of the subjects may be published to.
func (d *Doctor) canPublish(subjects []string) (bool, error) {
	for _, subject := range subjects {
		ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
		allowed, err := natsconn.CanPublish(ctx, d.NATS.Conn, subject)
		cancel()
		if err != nil {
			return false, fmt.Errorf("publish to %s: %w", subject, err)
		}
		if allowed {
			return true, nil
		}
	}
	return false, nil
}
