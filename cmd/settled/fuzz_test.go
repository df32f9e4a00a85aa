package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/telemetry"
	"settled/settlement"
)

// FuzzConfig: a configuration file is taken or refused with a reason that is bearable
// to read, and one that is taken makes valid parts or says what is wrong with them.
func FuzzConfig(f *testing.F) {
	f.Add("nats: {url: nats://127.0.0.1:4222, prefix: prod.}\npolicies:\n  no_show:\n    - {to: provider, share: \"0.5\"}\n    - {to: funders, share: remaining}\n")
	f.Add("clearnode: {url: ws://x/ws, key_files: [a, b], message_expiry: 60s}\nconsumer: {workers: 64, backoff: {initial: 1s}}\n")
	f.Add("policies: {cancellation: [{to: &a funders, share: *a}]}")
	f.Add("a: &a [*a]\n---\nb: 1")
	f.Add("nats: {url: 1e999, url: 2}\nlimits: []\nembedded: {enabled: yes}\nclearnode: {rate_limit: .nan}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "settled.yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		cmd := &cobra.Command{}
		config.AddFlags(cmd.Flags())
		c, _, err := (&program{configFile: path}).load(cmd)
		if err != nil {
			if len(err.Error()) > 4096+2*len(text) {
				t.Fatalf("%d bytes of error for %d of text", len(err.Error()), len(text))
			}
			return
		}
		_ = c.Consumer().Validate()
		_ = c.Ledger().Validate()
		for scenario, p := range c.Policies {
			if _, err := settlement.ParseScenario(string(scenario)); err != nil || p.Ref().Digest == "" {
				t.Fatalf("policy %q: %v", scenario, err)
			}
		}
	})
}

// FuzzPolicy: a policy that is taken pays out exactly what is in a session, to
// participants only, or says why not.
func FuzzPolicy(f *testing.F) {
	f.Add("provider", "completion", "funders", "remaining", "0.3", "0.000006", "0.000002")
	f.Add("winner", "33.333333333333333333%", "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "remaining", "", "1", "2")
	f.Add("awards", "remaining", "provider", "0.5", "1", "10", "5.000001")
	f.Add("funders", "remaining", "", "", "0", "0", "99999999999999999999999999999999.999999999999999999")
	f.Fuzz(func(t *testing.T, to1, share1, to2, share2, completion, a, b string) {
		steps := []settlement.PolicyStep{{To: to1, Share: share1}}
		if to2 != "" {
			steps = append(steps, settlement.PolicyStep{To: to2, Share: share2})
		}
		p, err := settlement.ParsePolicy("fuzzed", steps)
		if err != nil {
			return
		}
		s, ok := fuzzedSession(a, b)
		o, err := settlement.ParseOutcome(fuzzedOutcome(completion))
		if !ok || err != nil {
			return
		}
		plan, failure := p.Plan(o, s)
		if failure != nil {
			return
		}
		paid := map[settlement.Asset]settlement.Amount{}
		for _, row := range plan.Allocations {
			if strings.HasPrefix(row.Amount.String(), "-") {
				t.Fatalf("%s gets %s", row.Participant, row.Amount)
			}
			paid[row.Asset] = paid[row.Asset].Add(row.Amount)
		}
		for _, total := range s.Balance() {
			if paid[total.Asset].String() != total.Amount.String() {
				t.Fatalf("%+v pays %s of %s %s", steps, paid[total.Asset], total.Amount, total.Asset)
			}
		}
		if want := len(s.Participants) * len(s.Balance()); len(plan.Allocations) != want {
			t.Fatalf("%d rows, want %d", len(plan.Allocations), want)
		}
	})
}

var fuzzedPeople = []string{"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF", "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}

func fuzzedOutcome(completion string) settlement.Envelope {
	members := map[string]any{
		"session_id": "0x" + strings.Repeat("ab", 32), "parties": map[string]any{"provider": fuzzedPeople[1], "winner": fuzzedPeople[:2]},
		"awards": []any{map[string]any{"participant": fuzzedPeople[0], "share": "0.1"}, map[string]any{"participant": fuzzedPeople[2], "share": "0.9"}},
	}
	if completion != "" {
		members["completion"] = completion
	}
	data, _ := json.Marshal(members) // text always marshals
	return settlement.Envelope{Subject: "outcome.fuzzed", Type: "outcome.fuzzed", Source: "/f", ID: "1", Data: data, Payload: data, Stream: "OUTCOMES", Sequence: 1}
}

func fuzzedSession(a, b string) (settlement.Session, bool) {
	s := settlement.Session{ID: settlement.SessionID("0x" + strings.Repeat("ab", 32)), Open: true, Version: 1, Quorum: 100, Decimals: map[settlement.Asset]int32{"usdc": 6, "weth": 18}}
	for i, amount := range []string{a, b, a} {
		wallet, err := settlement.ParseAddress(fuzzedPeople[i])
		put, amountErr := settlement.ParseAmount(amount)
		if err != nil || amountErr != nil {
			return s, false
		}
		s.Participants = append(s.Participants, settlement.Participant{Address: wallet, Spelling: fuzzedPeople[i], Weight: 50})
		s.Deposits = append(s.Deposits, settlement.Transfer{Wallet: wallet, Asset: []settlement.Asset{"usdc", "usdc", "weth"}[i], Amount: put})
	}
	return s, true
}

// FuzzProposal: what is taken for a proposal is the same proposal when it is written
// and read again; nothing else ends but by an error.
func FuzzProposal(f *testing.F) {
	f.Add([]byte(`{"protocol":"nitrorpc/0.4","session_id":"0x00","outcome":{"source":"/a","id":"1"},"payload":"e30=","allocations":[{"participant":"0x","asset":"usdc","amount":"1"}]}`))
	f.Add([]byte(`{"session_id":"x","payload":"AA==","payload":"AA=="}`))
	f.Add([]byte(strings.Repeat(`[`, 9) + strings.Repeat(`]`, 9)))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := cosigner.ReadProposal(text)
		if err != nil {
			if len(err.Error()) > 4096 {
				t.Fatalf("%d bytes of error", len(err.Error()))
			}
			return
		}
		written, err := json.Marshal(p)
		must(t, err)
		again, err := cosigner.ReadProposal(written)
		if err != nil {
			t.Fatalf("its own writing is refused: %v: %s", err, written)
		}
		if twice, _ := json.Marshal(again); !bytes.Equal(written, twice) {
			t.Fatalf("%s, and then %s", written, twice)
		}
	})
}

// FuzzCosignAnswer: an answer gives a signature only where it is the asked account's
// over these very bytes, and whatever else it says is cut short.
func FuzzCosignAnswer(f *testing.F) {
	key, err := crypto.ToECDSA(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	p := clearnode.Proposal{Protocol: "nitrorpc/0.4", Payload: []byte("[1]")}
	signature, err := crypto.Sign(crypto.Keccak256(p.Payload), key)
	if err != nil {
		f.Fatal(err)
	}
	signature[64] += 27
	of := settlement.Address(crypto.PubkeyToAddress(key.PublicKey))
	f.Add([]byte(`{"signature":"` + hexutil.Encode(signature) + `"}`))
	f.Add([]byte(`{"refused":{"code":"invalid_outcome","message":"a\u0000b","class":"rejected"}}`))
	f.Add([]byte(`{"waiting":{"reason":"x","message":"` + strings.Repeat("y", 600) + `","until":"2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := cosigner.ReadCosignAnswer(text, of, p)
		if (got == nil) == (err == nil) {
			t.Fatalf("%x, %v", got, err)
		}
		if err == nil && p.SignedBy(of, got) != nil {
			t.Fatalf("%x is taken for a signature", got)
		}
		if err != nil && len(err.Error()) > 8*cosigner.MaxForeignText {
			t.Fatalf("%d bytes of error", len(err.Error()))
		}
	})
}

// FuzzHTTP: no request changes anything, ends anything, or makes a service look ready
// that isn't.
func FuzzHTTP(f *testing.F) {
	for _, line := range []string{"GET /healthz", "GET /readyz", "GET /readyz?for=http", "POST /readyz", "GET /metrics", "DELETE /api/x", "GET /../..//metrics", "GET http://x/readyz?for=%zz", "OPTIONS *", "CONNECT a:1"} {
		f.Add([]byte(line + " HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"))
	}
	handler := dashboard.NewHandler(dashboard.Probes{Ready: func() error { return cosigner.ErrUseless }, Registry: telemetry.New(zerolog.Nop()).Registry}, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 599 {
			t.Fatalf("%s %s is answered %d", r.Method, r.URL, w.Code)
		}
		if w.Code == http.StatusOK && r.URL.Path == "/readyz" && r.URL.Query().Get("for") != "http" {
			t.Fatalf("%s %s says that it is ready", r.Method, r.URL)
		}
		if w.Code < 300 && r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Fatalf("%s %s is answered %d", r.Method, r.URL, w.Code)
		}
	})
}
