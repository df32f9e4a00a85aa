package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
)

const (
	alice = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
	judge = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, o Options) *Sim {
	t.Helper()
	s, err := Start(o)
	must(t, err)
	return s
}

// TestParseFaults: each mistake is refused with what is wrong.
func TestParseFaults(t *testing.T) {
	methods := []string{"close_app_session", "ping"}
	for list, want := range map[string]string{
		"":                                "",
		"delay=2s,lose-answer=10%":        "",
		"refuse=5.5%,drop-connection=1%":  "",
		"stall:close_app_session=1s@100%": "",
		"expire-login=0%":                 "",
		"lose-anwser=10%":                 `unknown fault "lose-anwser": did you mean "lose-answer"?`,
		"refuse:close_ap_session=10%":     `no method "close_ap_session": did you mean "close_app_session"?`,
		"refuse=5%,refuse=6%":             "refuse is given twice",
		"refuse=5%,":                      "unknown fault",
		"refuse":                          "want a percentage",
		"refuse=5":                        "want a percentage",
		"refuse=101%":                     "want a percentage",
		"refuse=-1%":                      "want a percentage",
		"refuse=1e1%":                     "want a percentage",
		"refuse=NaN%":                     "want a percentage",
		"refuse=2s":                       "want a percentage",
		"delay=10%":                       "want a duration",
		"delay=0s":                        "want a duration",
		"delay=2h":                        "want a duration",
		"delay=2s@":                       "want a percentage",
		"delay=2s@200%":                   "want a percentage",
		"stall-read=1s":                   "a node of nitrorpc/0.4 has no fault stall-read",
	} {
		switch _, err := parseFaults(list, 1, clearnodetest.Nitro04, methods); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", list, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", list, err, want)
		}
	}
	if _, err := parseFaults("wrong-signature=1%", 1, clearnodetest.NitronodeV1, methods); err == nil {
		t.Error("a nitronode signs nothing")
	}
}

// TestSeed: the same seed strikes the same requests, about as many as the percentage says.
func TestSeed(t *testing.T) {
	strikes := func(seed uint64) (struck []bool) {
		faults, err := parseFaults("refuse=20%,delay=1s", seed, clearnodetest.Nitro04, nil)
		must(t, err)
		if faults[1].If != nil || faults[1].Delay != time.Second || faults[0].Times >= 0 {
			t.Fatalf("%+v", faults)
		}
		for range 1000 {
			struck = append(struck, faults[0].If())
		}
		return struck
	}
	first := strikes(7)
	if !slices.Equal(first, strikes(7)) || slices.Equal(first, strikes(8)) {
		t.Error("the seed does not decide")
	}
	n := 0
	for _, hit := range first {
		if hit {
			n++
		}
	}
	if n < 150 || n > 250 {
		t.Errorf("%d of 1000 requests are struck, want about 200", n)
	}
}

// TestStateFile: sessions, balances and the clock survive a restart, whoever else wants the
// file is refused, and so is a file that is damaged, foreign, or of another node.
func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sim.json")
	o := Options{Node: clearnodetest.Config{Protocol: clearnodetest.NitronodeV1}, StateFile: path}
	s := start(t, o)
	opened, err := s.Open(Opening{Count: 2, Participants: []string{alice, judge}})
	must(t, err)
	s.ahead.Store(int64(time.Hour))
	if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "another settled sim uses it") {
		t.Errorf("two nodes with one state: %v", err)
	}
	must(t, s.Close())

	s = start(t, o)
	for _, was := range opened {
		if d, ok := s.Node.SessionDetail(was.ID); !ok || d.Status != "open" || len(d.Deposits) != 1 || !d.Deposits[0].Amount.Equal(was.Deposits[0].Amount) {
			t.Errorf("%+v after a restart", d)
		}
	}
	if time.Duration(s.ahead.Load()) != time.Hour {
		t.Error("the clock is back")
	}
	more, err := s.Open(Opening{Participants: []string{alice, judge}})
	must(t, err)
	if more[0].Definition.Nonce <= opened[1].Definition.Nonce {
		t.Errorf("nonce %d after %d", more[0].Definition.Nonce, opened[1].Definition.Nonce)
	}
	must(t, s.Close())
	must(t, s.Node.Check())

	good, err := os.ReadFile(path)
	must(t, err)
	o.Node.Protocol = clearnodetest.Legacy
	if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "start with --protocol nitronode/v1") {
		t.Errorf("a state of another generation: %v", err)
	}
	o.Node.Protocol = clearnodetest.NitronodeV1
	for name, c := range map[string]struct{ text, want string }{
		"truncated": {string(good[:len(good)-1]), "is damaged"},
		"changed":   {strings.Replace(string(good), `"10"`, `"11"`, 1), "is damaged"},
		"foreign":   {"clearnode:\n  url: x\n", "is not a state file"},
		"empty":     {"", "is not a state file"},
		"newer":     {strings.Replace(string(good), "state 1", "state 2", 1), "is not a state file of this version"},
	} {
		must(t, os.WriteFile(path, []byte(c.text), 0o600))
		if _, err := Start(o); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); string(after) != c.text { // #nosec G304 -- the test's own
			t.Errorf("%s: the file was changed", name)
		}
	}
	must(t, os.WriteFile(path, good, 0o600))
	must(t, start(t, o).Close())
}

// control calls the API, and returns the status and the answer.
func control(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	if !json.Valid(text) {
		t.Errorf("%s %s: not JSON: %s", method, url, text)
	}
	return answer.StatusCode, string(text)
}

// TestControl calls every route, rightly and wrongly.
func TestControl(t *testing.T) {
	s := start(t, Options{Seed: 1, StateFile: filepath.Join(t.TempDir(), "sim.json")})
	t.Cleanup(func() { must(t, s.Close()) })
	for _, listen := range []string{"0.0.0.0:0", ":8001", "192.0.2.1:1", "example.org:1", "127.0.0.1"} {
		if _, _, err := s.ServeControl(listen); !terminal.IsUsageError(err) {
			t.Errorf("%s: %v", listen, err)
		}
	}
	address, stop, err := s.ServeControl("127.0.0.1:0")
	must(t, err)
	t.Cleanup(stop)
	sessions := fmt.Sprintf(`{"participants":[%q,%q]`, strings.ToLower(alice), judge)
	for _, c := range []struct {
		call, body string
		status     int
		want       string
		header     []string
	}{
		{"GET /", "", 200, `"protocol":"nitrorpc/0.4"`, nil},
		{"GET /", "", 421, "unknown Host header", []string{"Host", "evil.example:8001"}},
		{"GET /", "", 200, "address", []string{"Host", "localhost"}},
		{"POST /reset", "", 403, "error", []string{"Sec-Fetch-Site", "cross-site"}},
		{"GET /session", "", 404, "there is no GET /session", nil},
		{"PATCH /clock", "", 404, "there is no PATCH /clock", nil},
		{"POST /sessions", sessions + `}`, 200, `"amount":"10"`, nil},
		{"POST /sessions", sessions + `,"count":2,"weights":[60,40],"quorum":60,"deposits":[{"participant":"` + alice + `","asset":"weth","amount":"0.5"}]}`, 200, `"weights":[60,40]`, nil},
		{"POST /sessions", sessions + `,"cuont":2}`, 400, "cuont", nil},
		{"POST /sessions", sessions + `}{}`, 400, "one JSON object", nil},
		{"POST /sessions", `{"participants":["` + judge + `"]}`, 400, "two or more", nil},
		{"POST /sessions", sessions + `,"weights":[1]}`, 400, "number of weights", nil},
		{"POST /sessions", sessions + `,"deposits":[{"participant":"` + alice + `","asset":"usdx","amount":"1"}]}`, 400, "the node has usdc and weth", nil},
		{"POST /sessions", sessions + `,"deposits":[{"participant":"` + alice + `","asset":"usdc","amount":"0.0000001"}]}`, 400, "at most 6 decimals", nil},
		{"POST /sessions", sessions + `,"deposits":[{"participant":"` + alice + `","asset":"usdc","amount":"1e9999"}]}`, 400, "at most 1e30", nil},
		{"GET /sessions?status=open", "", 200, `"status":"open"`, nil},
		{"GET /sessions?status=shut", "", 400, "want open or closed", nil},
		{"GET /sessions/0x12", "", 404, "no session 0x12", nil},
		{"PUT /faults", `{"faults":"lose-answer=10%","seed":7}`, 200, `{"faults":"lose-answer=10%","seed":7}`, nil},
		{"PUT /faults", `{"faults":"loose-answer=10%"}`, 400, `did you mean \"lose-answer\"`, nil},
		{"GET /faults", "", 200, `{"faults":"lose-answer=10%","seed":7}`, nil},
		{"DELETE /faults", "", 200, `{"faults":"","seed":7}`, nil},
		{"GET /clock", "", 200, `"ahead":"0s"`, nil},
		{"POST /clock", `{"advance":"90s"}`, 200, `"ahead":"1m30s"`, nil},
		{"POST /clock", `{"advance":"-1s"}`, 400, "forward only", nil},
		{"POST /clock", `{"advance":"99999h"}`, 400, "forward only", nil},
		{"GET /check", "", 200, `{"ok":true,"violations":[]}`, nil},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		status, answer := control(t, method, "http://"+address+path, c.body, c.header...)
		if status != c.status || !strings.Contains(answer, c.want) || (status != 200) != strings.HasPrefix(answer, `{"error":`) {
			t.Errorf("%s %s: %d %s, want %d %s", c.call, c.body, status, answer, c.status, c.want)
		}
		must(t, contract.Check(answerSchema(c.call, status), []byte(answer)))
	}

	id := s.Node.SessionIDs()[0]
	must(t, s.Node.CloseElsewhere(id, []clearnodetest.Allocation{{Participant: judge, Asset: "usdc", Amount: decimal.NewFromInt(10)}, {Participant: alice, Asset: "usdc"}}))
	_, answer := control(t, "GET", "http://"+address+"/sessions/"+id, "")
	must(t, contract.Check("sim.session", []byte(answer)))
	if !strings.Contains(answer, `"status":"closed"`) || !strings.Contains(answer, `"payouts":[{"participant":"`+judge) || !strings.Contains(answer, `"debit":"10"`) {
		t.Error(answer)
	}
	if _, answer := control(t, "POST", "http://"+address+"/reset", ""); !strings.Contains(answer, s.Node.URL()) || len(s.Node.SessionIDs()) != 0 || s.ahead.Load() != 0 {
		t.Errorf("%s: %d sessions", answer, len(s.Node.SessionIDs()))
	}
	if status, _ := control(t, "POST", "http://"+address+"/sessions", sessions+"}"); status != 200 {
		t.Error("no session can be opened after a reset")
	}
}
