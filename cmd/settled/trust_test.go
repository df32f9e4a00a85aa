package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats.go"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// signingKey writes the key of a publisher and returns its file and address.
func (d *deployment) signingKey(name string) (file, address string) {
	k := d.key(name)
	return filepath.Join(d.dir, name+".key"), addressOf(k)
}

// The whole way, by the command line: signed outcomes settle, others are dead
// letters of no session; and a signed one that failed keeps its signature when it
// is replayed.
func TestOutcomeSigners(t *testing.T) {
	d := deploy(t)
	shop, shopAddress := d.signingKey("shop")
	stranger, _ := d.signingKey("stranger")
	_, other := d.signingKey("other")
	d.cfg.TrustOutcomeSigners = []string{other, strings.ToLower(shopAddress)}
	d.serve()
	session := d.open()
	publish := func(id string, more ...string) (p publishResult) {
		args := append([]string{"publish", "partial_service", "--session", string(session), "--party", "provider=" + addressOf(d.players[1]), "--completion", "0.3333333", "--id", id, "-o", "json"}, more...)
		d.must(json.Unmarshal([]byte(d.ok(args...)), &p))
		return p
	}
	untrusted := func(sequence uint64, says string) {
		t.Helper()
		e := d.result("", sequence)
		d.wantCode(e, settlement.UntrustedOutcome)
		if e.Error == nil || !strings.Contains(e.Error.Message, says) || e.Session != "" {
			t.Errorf("%+v, want %q", e.Error, says)
		}
	}
	untrusted(publish("a").Sequence, "carries no Settled-Signature")
	untrusted(publish("b", "--sign-key", stranger).Sequence, "none of trust.outcome_signers")
	// Its scenario has no policy: it fails, is replayed, and fails as itself again.
	var p publishResult
	d.must(json.Unmarshal([]byte(d.ok("publish", "no_such", "--no-check", "--session", string(session), "--sign-key", shop, "--id", "c", "-o", "json")), &p))
	d.wantCode(d.result(session, p.Sequence), settlement.UnknownScenario)
	d.ok("deadletter", "replay", "--all", "--scenario", "no_such")
	d.wantCode(d.result(session, p.Sequence+1), settlement.UnknownScenario)
	d.wantClosed(session, publish("d", "--sign-key", shop).Sequence)
	if letters := d.letters(); len(letters) != 3 || letters[0].Session != session {
		t.Errorf("%+v: want what the untrusted ones claim, and one of no_such", letters)
	}
	d.verify(1)
}

// A signed outcome that failed is settled again only by an operator's replay, which is on
// record: not by a copy of its message, nor by one that says that it is a replay. One that
// was discarded stays discarded.
func TestAFailedSignedOutcomeIsSettledAgainByReplayAlone(t *testing.T) {
	for _, discarded := range []bool{false, true} {
		t.Run(fmt.Sprintf("discarded %v", discarded), func(t *testing.T) {
			d := deploy(t)
			shop, address := d.signingKey("shop")
			d.cfg.TrustOutcomeSigners = []string{address}
			limit, err := settlement.ParseLimit("usdc", "", "session", "1")
			d.must(err)
			d.cfg.Limits = settlement.Limits{limit}
			session := d.open()
			data := d.partial()
			data["session_id"] = session
			event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "x", "source": "/test", "type": "outcome.partial_service", "data": data})
			d.must(err)
			good := outcomeMessage("", "partial_service", event)
			d.must(signOutcome(t.Context(), good, "", shop, ""))
			publish := func() uint64 {
				ack, err := d.nats.JS.PublishMsg(t.Context(), good)
				d.must(err)
				return ack.Sequence
			}
			_, stop := d.serve()
			d.wantCode(d.result(session, publish()), settlement.LimitExceeded)
			letter := fmt.Sprint(d.letters()[0].Sequence)
			if discarded {
				d.ok("deadletter", "discard", letter, "--reason", "not to be paid")
			}
			stop()
			d.cfg.Limits = nil
			d.serve()
			d.wantCode(d.result(session, publish()), settlement.UntrustedOutcome)
			if discarded {
				copied := fmt.Sprint(d.letters()[0].Sequence)
				d.ok("deadletter", "replay", copied)
				d.until("the replay has a result", func() bool { return len(d.entries(session)) == 3 })
				d.wantCode(d.entries(session)[2], settlement.UntrustedOutcome)
				d.verify(0)
				return
			}
			d.ok("deadletter", "replay", letter)
			d.until("the replay is settled", func() bool {
				st, _ := d.node.Session(string(session))
				return st.Status == "closed" && len(d.entries(session)) == 4
			})
			d.verify(1)
		})
	}
}

// Whoever copies a signed outcome and breaks or strips the copy doesn't end it.
func TestCopiesOfASignedOutcome(t *testing.T) {
	d := deploy(t)
	shop, address := d.signingKey("shop")
	d.cfg.TrustOutcomeSigners = []string{address}
	session := d.open()
	data := d.partial()
	data["session_id"] = session
	event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "x", "source": "/test", "type": "outcome.partial_service", "data": data})
	d.must(err)
	good := outcomeMessage("", "partial_service", event)
	d.must(signOutcome(t.Context(), good, "", shop, ""))
	// The copies come before it is looked at, and after it in the stream.
	_, stop := d.serve()
	stop()
	var sequences []uint64
	for _, change := range []func(*nats.Msg){
		func(*nats.Msg) {},
		func(m *nats.Msg) { m.Header.Del(consumer.SignatureHeader) },
		func(m *nats.Msg) { m.Data = []byte(strings.Replace(string(event), `"1.0"`, `"7.0"`, 1)) },
		func(m *nats.Msg) { m.Subject = "outcome.cancellation" },
		func(m *nats.Msg) { m.Header.Add(consumer.SignatureHeader, m.Header.Get(consumer.SignatureHeader)) },
		func(m *nats.Msg) { m.Data = []byte(strings.Replace(string(event), `"0.3333333"`, `"0.9"`, 1)) },
		func(m *nats.Msg) { m.Data = []byte(strings.Replace(string(event), `"id":"x"`, `"id":"y"`, 1)) },
	} {
		m := &nats.Msg{Subject: good.Subject, Data: good.Data, Header: nats.Header{}}
		for name, values := range good.Header {
			m.Header[name] = append([]string{}, values...)
		}
		change(m)
		ack, err := d.nats.JS.PublishMsg(t.Context(), m)
		d.must(err)
		sequences = append(sequences, ack.Sequence)
	}
	d.serve()
	d.wantClosed(session, sequences[0])
	for _, sequence := range sequences[1:] {
		if e := d.result("", sequence); e.State != settlement.EntryFailed {
			t.Errorf("%+v", e)
		}
	}
	d.verify(1)
}

// A co-signer holds outcomes to its own list, whoever asks.
func TestCosignerWantsSignatures(t *testing.T) {
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	_, address := d.signingKey("shop")
	d.start(d.cosignerOf("partner", func(c *config.Config) { c.TrustOutcomeSigners = []string{address} }))
	d.serve()
	session := d.openShared(70, share{d.judge, 40}, share{partner, 30})
	e := d.result(session, d.publish("partial_service", "a", session, d.partial()))
	d.wantCode(e, settlement.QuorumNotReached)
	if e.Error == nil || !strings.Contains(e.Error.Message, "untrusted_outcome") {
		t.Errorf("%+v", e.Error)
	}
	d.verify(0)
}

// The README's vector of a signed outcome is what this program signs and takes.
func TestSignatureVector(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	must(t, err)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "shop.key"), strings.Repeat("0", 63)+"3")
	var p struct {
		Data json.RawMessage `json:"data"`
	}
	event := between(t, string(readme), "Nats-Msg-Id: $(uuidgen)\" '", "'\n")
	must(t, json.Unmarshal([]byte(event), &p))
	m := outcomeMessage("", "payment_completed", []byte(event))
	must(t, signOutcome(t.Context(), m, "", filepath.Join(dir, "shop.key"), ""))
	o, err := settlement.ParseOutcome(cloudevent.Read(m.Subject, m.Header, m.Data, "", 0, ""))
	must(t, err)
	for what, text := range map[string]string{
		"the digest":       o.Ref.Digest,
		"the signed text":  strings.TrimPrefix(string(o.Ref.SignedText()), "settled outcome\n"),
		"the signature":    m.Header.Get(consumer.SignatureHeader),
		"the signer's key": strings.Repeat("0", 63) + "3",
	} {
		if !strings.Contains(string(readme), text) {
			t.Errorf("%s is not in the README: %s", what, text)
		}
	}
	private, err := crypto.HexToECDSA(strings.Repeat("0", 63) + "3")
	must(t, err)
	if f := config.CheckSignature([]settlement.Address{settlement.Address(crypto.PubkeyToAddress(private.PublicKey))}, o); f != nil {
		t.Error(f)
	}
}

func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, from)
	part, _, foundToo := strings.Cut(rest, to)
	if !found || !foundToo {
		t.Fatalf("nothing between %q and %q", from, to)
	}
	return part
}

// Every way to sign wrongly is told apart in words.
func TestSignedByOne(t *testing.T) {
	key, err := crypto.GenerateKey()
	must(t, err)
	file := filepath.Join(t.TempDir(), "k")
	write(t, file, hex.EncodeToString(crypto.FromECDSA(key)))
	signer, err := clearnode.LoadKeyFile(file, "")
	must(t, err)
	o := settlement.Outcome{Ref: settlement.OutcomeRef{Source: "/s", ID: "1", Type: "outcome.x", Digest: "00"}}
	good, err := clearnode.SignMessage(t.Context(), signer, o.Ref.SignedText())
	must(t, err)
	bare := o
	bare.Ref.ID = "2"
	elsewhere, err := clearnode.SignMessage(t.Context(), signer, bare.Ref.SignedText())
	must(t, err)
	for i, c := range []struct {
		header map[string][]string
		says   string // "": trusted
	}{
		{map[string][]string{"Settled-Signature": {good}}, ""},
		{map[string][]string{"settled-SIGNATURE": {" " + strings.TrimPrefix(good, "0x")}}, ""},
		{nil, "carries no"},
		{map[string][]string{"Settled-Signature": {}}, "carries no"},
		{map[string][]string{"Settled-Signature": {good, good}}, "stands 2 times"},
		{map[string][]string{"Settled-Signature": {good}, "settled-signature": {good}}, "stands 2 times"},
		{map[string][]string{"Settled-Signature": {"0xzz"}}, "no hex"},
		{map[string][]string{"Settled-Signature": {good[:40]}}, "want 65"},
		{map[string][]string{"Settled-Signature": {elsewhere}}, "none of trust.outcome_signers"},
	} {
		o.Envelope.Header = c.header
		f := config.CheckSignature([]settlement.Address{signer.Address()}, o)
		if (f == nil) != (c.says == "") || f != nil && (!strings.Contains(f.Message, c.says) || f.Code != settlement.UntrustedOutcome) {
			t.Error(fmt.Sprint(i), f, c.says)
		}
	}
}
