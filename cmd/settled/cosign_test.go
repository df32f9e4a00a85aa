package main

import (
	"crypto/ecdsa"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/shopspring/decimal"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/telemetry"
	"settled/settlement"
)

// share is one participant of a session that several sign for.
type share struct {
	key    *ecdsa.PrivateKey
	weight int64
}

// openShared opens a session of the two players, who sign nothing, and of others.
func (d *deployment) openShared(quorum uint64, shares ...share) settlement.SessionID {
	d.t.Helper()
	return d.openSharedBy("NitroRPC/0.4", []string{"10", "5.000001"}, quorum, shares...)
}

func (d *deployment) openSharedBy(protocol string, deposits []string, quorum uint64, shares ...share) settlement.SessionID {
	d.t.Helper()
	d.nonce++
	def := clearnodetest.Definition{
		Application: "test", Protocol: protocol, Participants: []string{addressOf(d.players[0]), addressOf(d.players[1])},
		Weights: []int64{0, 0}, Quorum: quorum, Challenge: 86400, Nonce: d.nonce,
	}
	for _, s := range shares {
		def.Participants, def.Weights = append(def.Participants, addressOf(s.key)), append(def.Weights, s.weight)
	}
	var funds []clearnodetest.Allocation
	for i, amount := range deposits {
		funds = append(funds, clearnodetest.Allocation{Participant: addressOf(d.players[i]), Asset: "usdc", Amount: decimal.RequireFromString(amount)})
	}
	id, err := d.node.OpenSession(def, funds)
	d.must(err)
	return settlement.SessionID(id)
}

// cosignerOf is another party with a key of its own, not started yet. It is made as
// if it had been started long ago.
func (d *deployment) cosignerOf(name string, change ...func(*config.Config)) *cosigner.Cosigner {
	d.t.Helper()
	cfg := d.cfg
	cfg.NodeKeyFiles = []string{filepath.Join(d.dir, name+".key")}
	for _, c := range change {
		c(&cfg)
	}
	c := cosigner.New(&cfg, d.log)
	c.Fence.Opens = time.Now()
	return c
}

// start runs a co-signer until the test ends, or stop is called.
func (d *deployment) start(c *cosigner.Cosigner) (stop func()) {
	d.t.Helper()
	d.must(c.Open())
	stop = d.run(c.Run, c.Nats)
	d.until("the co-signer is ready", func() bool { return c.Ready() == nil })
	return stop
}

// policy replaces one policy of a configuration.
func policy(scenario settlement.Scenario, steps ...settlement.PolicyStep) func(*config.Config) {
	return func(c *config.Config) {
		p, err := settlement.ParsePolicy(scenario, steps)
		if err != nil {
			panic(err)
		}
		c.Policies = settlement.BuiltIn()
		c.Policies[scenario] = p
	}
}

// quickCosign is a configuration whose rounds are short.
func quickCosign(d *deployment) {
	d.cfg.ConsumerBackoffMax, d.cfg.CosignTimeout = time.Second, 2*time.Second
}

// Two parties, each with half of the quorum.
func TestCosignedSettlement(t *testing.T) {
	d := deploy(t)
	partner := d.key("partner")
	c := d.cosignerOf("partner")
	var told []cosigner.Result
	c.AnsweredFunc = func(a cosigner.Result) { told = append(told, a) }
	stop := d.start(c)
	d.serve()
	sequences := map[settlement.SessionID]uint64{}
	for _, id := range []string{"a", "b", "c"} {
		session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
		sequences[session] = d.publish("partial_service", id, session, d.partial())
	}
	for session, sequence := range sequences {
		if e := d.result(session, sequence); e.State != settlement.EntryClosed || *e.Recovered {
			t.Errorf("%s %+v", e.State, e)
		}
	}
	stop()
	if len(told) < 3 || told[0].Answer != "signed" || told[0].Scenario != "partial_service" || sequences[told[0].Session] != told[0].Sequence {
		t.Errorf("%+v", told)
	}
	d.verify(3)
}

// The same at the other generations of node. A nitronode takes two writes, and each
// is signed for; at a legacy one the outcome says what is in the session.
func TestCosignedSettlementElsewhere(t *testing.T) {
	for protocol, deposits := range map[string][]string{clearnodetest.NitronodeV1: {"10", "5.000001"}, clearnodetest.Legacy: {"15.000001"}} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			d := deployOn(t, clearnodetest.Config{Protocol: protocol})
			partner := d.key("partner")
			c := d.cosignerOf("partner")
			signed := 0
			c.AnsweredFunc = func(a cosigner.Result) {
				if a.Answer != "signed" {
					t.Errorf("%+v", a)
				}
				signed++
			}
			stop := d.start(c)
			d.serve()
			session := d.openSharedBy("NitroRPC/0.2", deposits, 100, share{d.judge, 50}, share{partner, 50})
			data := d.partial()
			data["parties"] = map[string]any{"provider": addressOf(d.players[1]), "funder": addressOf(d.players[0])}
			data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "15.000001"}}}
			d.wantClosed(session, d.publish("partial_service", "a", session, data))
			stop()
			if want := map[string]int{clearnodetest.NitronodeV1: 2, clearnodetest.Legacy: 1}[protocol]; signed != want {
				t.Errorf("%d were signed, want %d", signed, want)
			}
			d.must(d.node.Check())
		})
	}
}

// One who would pay otherwise refuses and says why. Where the quorum can't do
// without it the outcome fails with that; where it can, it counts for nothing.
func TestCosignerWithAnotherPolicyRefuses(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner, third := d.key("partner"), d.key("third")
	d.start(d.cosignerOf("partner"))
	d.start(d.cosignerOf("third", policy("partial_service", settlement.PolicyStep{To: "funders", Share: "remaining"})))
	d.serve()
	shares := []share{{d.judge, 40}, {partner, 30}, {third, 30}}
	without := d.openShared(70, shares...)
	d.wantClosed(without, d.publish("partial_service", "a", without, d.partial()))
	with := d.openShared(100, shares...)
	e := d.result(with, d.publish("partial_service", "b", with, d.partial()))
	d.wantCode(e, settlement.QuorumNotReached)
	for _, part := range []string{addressOf(third), "allocation_rejected", "this co-signer would pay", "my policy partial_service"} {
		if !strings.Contains(e.Error.Message, part) {
			t.Errorf("%q is not in %q", part, e.Error.Message)
		}
	}
	if strings.Contains(e.Error.Message, addressOf(partner)) {
		t.Errorf("who signed is named: %q", e.Error.Message)
	}
	if letters := d.letters(); len(letters) != 1 || !strings.Contains(letters[0].Error, addressOf(third)) {
		t.Errorf("%+v", letters)
	}
	d.verify(1)
}

// Nobody answers: the outcome waits, with its reason, and is settled once the
// co-signer is there.
func TestCosignersAway(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	s, _ := d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	sequence := d.publish("partial_service", "a", session, d.partial())
	d.until("it is seen to wait", func() bool { return gauge(t, s.Metrics, "settled_waiting_outcomes", "cosigners_away") == 1 })
	if gauge(t, s.Metrics, "settled_cosigners_asked_total", "away") == 0 {
		t.Error("nobody was asked")
	}
	if entries := d.entries(session); len(entries) != 0 {
		t.Errorf("%+v", entries)
	}
	d.start(d.cosignerOf("partner"))
	d.wantClosed(session, sequence)
	d.verify(1)
}

// gauge is the value of a metric with this label value; 0 where there is none.
func gauge(t *testing.T, m *telemetry.Metrics, name, label string) float64 {
	t.Helper()
	families, err := m.Registry.Gather()
	must(t, err)
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			if f.GetName() == name && len(metric.GetLabel()) > 0 && metric.GetLabel()[0].GetValue() == label {
				return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// Of three that are needed one is away. What the other signed for that round holds
// up the next, until it can no longer take effect.
func TestCosignerWaitsOutItsOwnSignature(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	quickCosign(d)
	partner, third := d.key("partner"), d.key("third")
	c := d.cosignerOf("partner")
	waited := make(chan cosigner.Result, 1)
	c.AnsweredFunc = func(a cosigner.Result) {
		if a.Answer == "waiting" && strings.Contains(a.Message, "another request") {
			select {
			case waited <- a:
			default:
			}
		}
	}
	d.start(c)
	d.serve()
	session := d.openShared(100, share{d.judge, 40}, share{partner, 30}, share{third, 30})
	sequence := d.publish("partial_service", "a", session, d.partial())
	if a := <-waited; a.Code != string(settlement.InDoubt) || a.Session != session {
		t.Errorf("%+v", a)
	}
	d.start(d.cosignerOf("third"))
	d.wantClosed(session, sequence)
	d.verify(1)
}

// One that was started just now waits out what it may have signed before.
func TestCosignerWaitsAfterItsStart(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	c := d.cosignerOf("partner")
	c.Fence = cosigner.NewCosignFence(time.Now(), testExpiry+testMargin)
	opens := c.Fence.Opens
	var early, late int
	c.AnsweredFunc = func(a cosigner.Result) {
		if a.Answer == "signed" && time.Now().Before(opens) {
			t.Error("it signed too early")
		}
		if a.Answer == "waiting" && strings.Contains(a.Message, "started") {
			early++
		} else {
			late++
		}
	}
	stop := d.start(c)
	d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.wantClosed(session, d.publish("partial_service", "a", session, d.partial()))
	stop()
	if early == 0 || late == 0 {
		t.Errorf("%d answers before it may sign, %d after", early, late)
	}
	d.verify(1)
}

// Neither what was to be signed nor a signature is in any log or output.
func TestCosigningLogsNoSignature(t *testing.T) {
	d := deploy(t)
	partner := d.key("partner")
	var log lockedBuffer
	d.log = zerolog.New(&log).Level(zerolog.TraceLevel)
	c := d.cosignerOf("partner")
	c.AnsweredFunc = func(a cosigner.Result) { _ = json.NewEncoder(&log).Encode(a) }
	d.start(c)
	spied := d.spy(partner)
	d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.result(session, d.publish("partial_service", "a", session, d.partial()))
	var p clearnode.Proposal
	d.must(json.Unmarshal(<-spied, &p))
	text := log.String()
	if !strings.Contains(text, `"answer":"signed"`) {
		t.Error("nothing was logged at all")
	}
	for what, secret := range map[string]string{"a payload": "close_app_session\\\",", "a request": `"payload"`, "a signature": `"signature"`} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the log", what)
		}
	}
	d.verify(1)
}
