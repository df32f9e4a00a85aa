package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
)

// serverTimeout bounds one round trip to the server.
const serverTimeout = 3 * time.Second

// ofSettled names the only user that may have these permissions.
const ofSettled = " in the permissions of the user settled, and of no other (deploy/nats/settled.conf)"

// checkSubscriptions checks the subscriptions that settled needs. It returns false if no
// answers can be received.
func (d *Doctor) checkSubscriptions() bool {
	if err := d.trySubscribe(d.NATS.NewInbox()); err != nil {
		d.fail("nats.rights", natsconn.InboxAdvice(err), "no answers are received: %s", err)
		return false
	}
	if d.Cosign {
		return true
	}
	for _, heard := range []struct{ subject, consequence string }{
		{consumer.OperationSubject(d.Cfg.NATSPrefix, "*"), "without this subscription settled notices a stop only at the next read (once a second)"},
		{"$JS.EVENT.ADVISORY.>", "without this subscription settled notices outcomes that another client takes only by reconciling, and changed streams late"},
	} {
		if err := d.trySubscribe(heard.subject); err != nil {
			d.warn("nats.rights", fmt.Sprintf("subscribe: [%q]", heard.subject)+ofSettled, "%s: %s", heard.consequence, err)
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
// parts of the API. It returns false if the user is evidently not settled's. doctor then does
// not advise to give that user these permissions.
func (d *Doctor) checkPermissions() (denied map[string]bool, settleds bool) {
	denied = map[string]bool{}
	needed := natsconn.Permissions(d.NATS.JS, d.Cfg)
	var missing []natsconn.Permission
	for _, p := range needed {
		allowed, err := d.canPublish(p.Subject())
		if err != nil {
			d.fail("nats.rights", "", "%s", err)
			return denied, false
		}
		if !allowed {
			missing = append(missing, p)
			denied[strings.TrimPrefix(p.Allow, d.apiPrefix())] = true
		}
	}
	if len(missing) > len(needed)/2 {
		d.fail("nats.rights", notSettled, "nats.url does not name settled's user: the user may not publish to %d of the %d subjects that settled needs, %s among them", len(missing), len(needed), missing[0].Allow)
		return denied, false
	}
	for _, p := range missing {
		report := d.fail
		if p.Need == natsconn.Optional {
			report = d.warn
		}
		report("nats.rights", fmt.Sprintf("publish: [%q]", p.Allow)+ofSettled, "settled may not publish to %s: %s", p.Allow, p.Consequence)
	}
	if len(missing) == 0 {
		d.ok("nats.rights", "settled may do all it needs (%d subjects tried)", len(needed))
	}
	return denied, true
}

// notSettled is the advice if the configuration names another user.
const notSettled = "run doctor with the configuration of `settled serve`, whose nats.url names the user settled; a co-signer runs `settled doctor --cosign`"

// apiPrefix begins the subjects of JetStream's API.
func (d *Doctor) apiPrefix() string {
	if d.NATS.Domain != "" {
		return "$JS." + d.NATS.Domain + ".API."
	}
	return "$JS.API."
}

// canPublish reports whether a subject may be published to.
func (d *Doctor) canPublish(subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	allowed, err := natsconn.CanPublish(ctx, d.NATS.Conn, subject)
	if err != nil {
		return false, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return allowed, nil
}
