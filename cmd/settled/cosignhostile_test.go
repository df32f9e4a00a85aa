package main

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats.go"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/settlement"
)

// spy hears what is asked of an account, and answers nothing.
func (d *deployment) spy(of *ecdsa.PrivateKey) <-chan []byte {
	d.t.Helper()
	heard := make(chan []byte, 1000)
	sub, err := d.nats.Subscribe(cosigner.Subject("", settlement.Address(crypto.PubkeyToAddress(of.PublicKey))), func(m *nats.Msg) { heard <- m.Data })
	d.must(err)
	d.must(d.nats.Flush())
	d.t.Cleanup(func() { _ = sub.Unsubscribe() })
	return heard
}

// ask sends a request as it stands, and returns the first answer.
func (d *deployment) ask(of *ecdsa.PrivateKey, request []byte) (a cosigner.CosignAnswer) {
	d.t.Helper()
	msg, err := d.nats.Request(cosigner.Subject("", settlement.Address(crypto.PubkeyToAddress(of.PublicKey))), request, patience)
	d.must(err)
	d.must(json.Unmarshal(msg.Data, &a))
	return a
}

// asked is what a service asks of a co-signer that doesn't answer, for one session.
func (d *deployment) asked(partner *ecdsa.PrivateKey, session settlement.SessionID) []byte {
	d.t.Helper()
	spied := d.spy(partner)
	d.cfg.CosignTimeout = 100 * time.Millisecond
	_, stop := d.serve()
	d.publish("partial_service", "a", session, d.partial())
	request := <-spied
	stop()
	d.cfg.CosignTimeout = 30 * time.Second
	return request
}

var payloadStamp = regexp.MustCompile(`,[0-9]+\]$`)

// stamped is a request as another round would have made it, some time ago: its bytes
// to sign bear another timestamp.
func (d *deployment) stamped(request []byte, ago time.Duration) []byte {
	d.t.Helper()
	var p clearnode.Proposal
	d.must(json.Unmarshal(request, &p))
	p.Payload = payloadStamp.ReplaceAll(p.Payload, fmt.Appendf(nil, ",%d]", time.Now().Add(-ago).UnixMilli()))
	text, err := json.Marshal(p)
	d.must(err)
	return text
}

// longFence keeps what a co-signer signed in flight for as long as a test takes.
func longFence(c *config.Config) { c.NodeFenceMargin = time.Hour }

func TestCosignerSignsOneOfTwoCloses(t *testing.T) {
	d := deploy(t)
	partner := d.key("partner")
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	request := d.asked(partner, session)
	d.start(d.cosignerOf("partner", longFence))
	first, second := d.stamped(request, time.Second), d.stamped(request, 2*time.Second)
	for _, c := range []struct {
		request []byte
		signed  bool
	}{{first, true}, {second, false}, {first, true}, {second, false}} {
		a := d.ask(partner, c.request)
		if c.signed != (a.Signature != "") || !c.signed && (a.Waiting == nil || a.Waiting.Reason != settlement.InDoubt || a.Waiting.Until == nil) {
			t.Errorf("%+v", a)
		}
		if c.signed {
			var p clearnode.Proposal
			d.must(json.Unmarshal(c.request, &p))
			d.must(p.SignedBy(settlement.Address(crypto.PubkeyToAddress(partner.PublicKey)), hexutil.MustDecode(a.Signature)))
		}
	}
}

// Whatever is asked, only the very close that the outcome is due is signed. All
// else is refused with its reason, or waits where time may fix it.
func TestCosignerRefusesHostileRequests(t *testing.T) {
	d := deploy(t)
	partner := d.key("partner")
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	good := d.asked(partner, session)
	other := d.publish("cancellation", "other", d.openShared(100, share{d.judge, 50}, share{partner, 50}), nil)
	d.start(d.cosignerOf("partner", longFence))
	altered := func(change func(*clearnode.Proposal)) []byte {
		var p clearnode.Proposal
		d.must(json.Unmarshal(good, &p))
		change(&p)
		text, err := json.Marshal(p)
		d.must(err)
		return text
	}
	replaced := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%s does not hold %s", good, old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	stranger := "0x00000000000000000000000000000000000000aa"
	for name, c := range map[string]struct {
		request []byte
		says    string
	}{
		"nothing":            {nil, "can't be read: "},
		"garbage":            {[]byte("garbage"), "can't be read: "},
		"a list":             {[]byte("[]"), "can't be read"},
		"null":               {[]byte("null"), "session_id or payload is missing"},
		"not UTF-8":          {replaced(`"protocol":"`, "\"protocol\":\"\xff"), "invalid UTF-8"},
		"deep":               {[]byte(strings.Repeat(`{"a":`, 100_000)), "unknown object member name"},
		"deep lists":         {[]byte(strings.Repeat(`[`, 500_000)), "can't be read"},
		"huge":               {bytes.Repeat([]byte(" "), 1<<20), "can't be read: "},
		"an unknown member":  {replaced(`{"protocol"`, `{"x":1,"protocol"`), "unknown object member name"},
		"a name twice":       {replaced(`{"protocol"`, `{"protocol":"x","protocol"`), "duplicate object member name"},
		"another case":       {replaced(`"payload"`, `"Payload"`), "unknown object member name"},
		"wrong type":         {replaced(`"sequence":`, `"sequence":"x","digest":`), "unmarshal JSON string into Go uint64"},
		"a number for text":  {replaced(`"protocol":"nitrorpc/0.4"`, `"protocol":4`), "unmarshal JSON number"},
		"more after it":      {append(bytes.Clone(good), "{}"...), "after top-level value"},
		"a digest changed":   {altered(func(p *clearnode.Proposal) { p.Outcome.Digest = strings.Repeat("0", 64) }), "not the one proposed"},
		"a source changed":   {altered(func(p *clearnode.Proposal) { p.Outcome.Source = "/other" }), "not the one proposed"},
		"another message":    {altered(func(p *clearnode.Proposal) { p.Outcome.Sequence = other }), "not the one proposed"},
		"no message":         {altered(func(p *clearnode.Proposal) { p.Outcome.Sequence = 1 << 40 }), "not mirrored yet, or removed"},
		"sequence 0":         {altered(func(p *clearnode.Proposal) { p.Outcome.Sequence = 0 }), "not mirrored yet, or removed"},
		"another stream":     {altered(func(p *clearnode.Proposal) { p.Outcome.Stream = "SETTLEMENTS" }), "this co-signer reads OUTCOMES"},
		"another session":    {altered(func(p *clearnode.Proposal) { p.Session = settlement.SessionID("0x" + zeros(64)) }), "the outcome is for session"},
		"a byte changed":     {altered(func(p *clearnode.Proposal) { p.Payload[bytes.Index(p.Payload, []byte("usdc"))] ^= 1 }), "not the close of session"},
		"another payee":      {altered(func(p *clearnode.Proposal) { p.Allocations[0].Participant = stranger }), "this co-signer would pay"},
		"rows in order else": {altered(func(p *clearnode.Proposal) { a := p.Allocations; a[0], a[1] = a[1], a[0] }), "this co-signer would pay"},
		"less is paid":       {altered(func(p *clearnode.Proposal) { p.Allocations = p.Allocations[1:] }), "the proposal pays"},
		"payload of another": {altered(func(p *clearnode.Proposal) {
			p.Payload = bytes.Replace(p.Payload, []byte(session), []byte("0x"+zeros(64)), 1)
		}), "not the close of session"},
	} {
		a := d.ask(partner, c.request)
		text := fmt.Sprintf("%+v %+v", a.Refused, a.Waiting)
		if a.Signature != "" || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, want %q", name, text, c.says)
		}
		if later := strings.Contains(c.says, "mirrored") || strings.Contains(c.says, "proposal pays"); later != (a.Waiting != nil) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if a := d.ask(partner, d.stamped(good, time.Second)); a.Signature == "" {
		t.Errorf("the true request after all that: %+v %+v", a.Refused, a.Waiting)
	}
}

// A flood of garbage, with and without a reply, ends nothing; and an answer is
// never published where the asking party wants to have something published.
func TestCosignerSurvivesAFlood(t *testing.T) {
	d := deploy(t)
	partner := d.key("partner")
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	good := d.asked(partner, session)
	d.start(d.cosignerOf("partner", longFence))
	subject := cosigner.Subject("", settlement.Address(crypto.PubkeyToAddress(partner.PublicKey)))
	abused, err := d.nats.SubscribeSync("outcome.forged")
	d.must(err)
	d.must(d.nats.PublishRequest(subject, "outcome.forged", []byte("garbage")))
	for i := range 20_000 {
		d.must(d.nats.PublishRequest(subject, "_INBOX.nobody", []byte(strings.Repeat("{", i%300))))
	}
	d.must(d.nats.Publish(subject, []byte("garbage")))
	d.until("it signs again", func() bool { return d.ask(partner, d.stamped(good, time.Second)).Signature != "" })
	if n, _, _ := abused.Pending(); n != 0 {
		t.Errorf("%d answers were published to a subject of outcomes", n)
	}
}

// Who answers first, and what, doesn't keep the true signature out.
func TestForgedCosignatureIsNotUsed(t *testing.T) {
	d := deploy(t)
	partner, forger := d.key("partner"), d.key("forger")
	d.start(d.cosignerOf("partner"))
	address := settlement.Address(crypto.PubkeyToAddress(partner.PublicKey))
	forged := make(chan struct{}, 1000)
	_, err := d.nats.Subscribe(cosigner.Subject("", address), func(m *nats.Msg) {
		var p clearnode.Proposal
		d.must(json.Unmarshal(m.Data, &p))
		digest := crypto.Keccak256(p.Payload)
		signature, err := crypto.Sign(digest, forger)
		d.must(err)
		signature[64] += 27
		true65, err := crypto.Sign(crypto.Keccak256([]byte("something else")), partner)
		d.must(err)
		for _, answer := range []any{
			"junk", map[string]any{}, cosigner.CosignAnswer{Signature: hexutil.Encode(signature), Address: address.String()},
			cosigner.CosignAnswer{Signature: hexutil.Encode(true65), Address: address.String()}, cosigner.CosignAnswer{Signature: "0x", Address: address.String()},
			cosigner.CosignAnswer{Refused: settlement.Fail(settlement.InvalidOutcome, "forged")}, cosigner.CosignAnswer{Refused: &settlement.Failure{Code: "no_such_code"}},
			cosigner.CosignAnswer{Waiting: &cosigner.CosignWaiting{Reason: "x", Message: strings.Repeat("long", 1000)}}, strings.Repeat("x", cosigner.MaxCosignAnswer),
		} {
			text, err := json.Marshal(answer)
			d.must(err)
			d.must(m.Respond(text))
		}
		forged <- struct{}{}
	})
	d.must(err)
	d.must(d.nats.Flush())
	s, _ := d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.wantClosed(session, d.publish("partial_service", "a", session, d.partial()))
	<-forged
	if gauge(t, s.Metrics, "settled_cosigners_asked_total", "signed") == 0 {
		t.Error("no true signature was used")
	}
	d.verify(1)
}
