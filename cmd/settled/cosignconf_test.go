package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/natsconn"
	"settled/settlement"
)

// configured starts a server with one of the configurations that are shipped.
func (d *deployment) configured(name string, change func(*server.Options)) *server.Server {
	d.t.Helper()
	options, err := server.ProcessConfigFile("../../deploy/nats/" + name)
	d.must(err)
	options.Host, options.Port, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, filepath.Join(d.dir, name)
	options.SyncAlways = false
	if change != nil {
		change(options)
	}
	return startNATS(d.t, options)
}

// twoParties are the variables that the configurations of two parties want.
func (d *deployment) twoParties(partner *ecdsa.PrivateKey) {
	for _, name := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR", "PARTNER"} {
		d.t.Setenv(name+"_PASSWORD", "test")
	}
	d.t.Setenv("PARTNER_COSIGN", cosigner.Subject("", settlement.Address(crypto.PubkeyToAddress(partner.PublicKey))))
}

// as is a server's URL with a user of the configurations.
func as(user string, ns *server.Server) string {
	return "nats://" + user + ":test@" + ns.Addr().String()
}

// moveTo makes the deployment's own connections go to another server.
func (d *deployment) moveTo(ns *server.Server) {
	d.t.Helper()
	d.cfg.NATSURL = as("settled", ns)
	var err error
	d.nats, err = natsconn.Connect(&d.cfg, "test", false)
	d.must(err)
	d.t.Cleanup(d.nats.Close)
}

// Two parties on one server, each in its own account with the permissions shipped.
func TestCosignOverTwoAccounts(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	d.twoParties(partner)
	ns := d.configured("cosign.conf", nil)
	d.moveTo(ns)
	d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	sequence := d.publish("partial_service", "a", session, d.partial())
	asPartner := func(c *config.Config) { c.NATSURL, c.NATSDomain = as("partner", ns), "outcomes" }
	d.start(d.cosignerOf("partner", asPartner))
	d.start(d.cosignerOf("partner", asPartner, policy("partial_service", settlement.PolicyStep{To: "funders", Share: "remaining"}))) // its refusal counts for nothing
	d.wantClosed(session, sequence)
	d.partnerMayNot(ns, session)
	d.verify(1)
}

// partnerMayNot: the partner can neither write anything of settled's, nor read
// anything but single outcomes.
func (d *deployment) partnerMayNot(ns *server.Server, session settlement.SessionID) {
	nc, err := nats.Connect(as("partner", ns), nats.MaxReconnects(0))
	d.must(err)
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Second))
	d.must(err)
	brief := func() context.Context {
		ctx, cancel := context.WithTimeout(d.t.Context(), 500*time.Millisecond)
		d.t.Cleanup(cancel)
		return ctx
	}
	for _, subject := range []string{"outcome.x", "settlement.closed." + string(session), "deadletter.x", "operation.resume"} {
		if _, err := js.Publish(brief(), subject, []byte("{}"), jetstream.WithRetryAttempts(0)); err == nil {
			d.t.Errorf("the partner may publish to %s", subject)
		}
	}
	for _, stream := range []string{"OUTCOMES", "SETTLEMENTS"} {
		if _, err := js.Stream(brief(), stream); err == nil || errors.Is(err, jetstream.ErrStreamNotFound) {
			d.t.Errorf("the partner sees stream %s: %v", stream, err)
		}
	}
}

// The partner has a NATS server of its own, which is a leaf node of the other's.
func TestCosignOverLeafNode(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	d.twoParties(partner)
	var options *server.Options // the server writes the port into it
	hub := d.configured("cosign-hub.conf", func(o *server.Options) {
		options = o
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", server.RANDOM_PORT
	})
	t.Setenv("LOCAL_PASSWORD", "test")
	t.Setenv("HUB", fmt.Sprintf("nats://leaf:test@127.0.0.1:%d", options.LeafNode.Port))
	leaf := d.configured("cosign-leaf.conf", nil)
	d.moveTo(hub)
	d.until("the leaf node is connected", func() bool { return hub.NumLeafNodes() == 1 })
	d.serve()
	d.start(d.cosignerOf("partner", func(c *config.Config) { c.NATSURL, c.NATSDomain = as("cosign", leaf), "outcomes" }))
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.wantClosed(session, d.publish("partial_service", "a", session, d.partial()))
	d.verify(1)
}

// A mirror keeps the sequences, and may be called otherwise. What isn't mirrored yet
// is waited for.
func TestCosignFromMirror(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	s, _ := d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	_, err := d.nats.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "COPY", Subjects: []string{"nothing"}})
	d.must(err)
	d.start(d.cosignerOf("partner", func(c *config.Config) { c.CosignStream = "COPY" }))
	sequence := d.publish("partial_service", "a", session, d.partial())
	d.until("it is asked for what isn't there", func() bool { return gauge(t, s.Metrics, "settled_cosigners_asked_total", "waiting") > 0 })
	d.must(d.nats.JS.DeleteStream(t.Context(), "COPY"))
	_, err = d.nats.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "COPY", Mirror: &jetstream.StreamSource{Name: "OUTCOMES"}})
	d.must(err)
	d.wantClosed(session, sequence)
	d.verify(1)
}
