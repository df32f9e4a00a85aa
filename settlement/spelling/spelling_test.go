package spelling

import (
	"strings"
	"testing"
)

var members = []string{"session_id", "parties", "completion", "awards", "expect", "reference", "reason", "evidence", "session_data", "signatures"}

func TestMeant(t *testing.T) {
	for name, want := range map[string]string{
		"expct": "expect", "expet": "expect", "xpect": "expect", "expectt": "expect", "exepct": "expect", "xepect": "expect", "Expect": "expect",
		"expects": "expect", "EXPECT": "expect", "ex_pect": "expect", "expekt": "expect",
		"party": "parties", "partys": "parties", "Parties": "parties", "partis": "parties", "award": "awards", "awrads": "awards",
		"sessionId": "session_id", "session-id": "session_id", "SessionID": "session_id", "sesion_id": "session_id", "session_ids": "session_id",
		"sessoin_idd": "session_id", "sessionData": "session_data", "signature": "signatures", "signatuers": "signatures",
		"refrence": "reference", "referense": "reference", "evidance": "evidence", "completon": "completion", "compleiton": "completion", "complection": "completion",

		"season": "", "person": "", "partner": "", "referee": "", "rewards": "", "price": "", "order": "", "note": "", "id": "", "": "",
		"expectation": "", "exception": "", "winner": "", "session": "", "____": "", "s": "", "reward": "", "participants": "",
	} {
		if got := Meant(name, members); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := Meant("assets", []string{"asset", "amount"}); got != "asset" {
		t.Errorf("assets: %q", got)
	}
	if got := Meant("id", []string{"ie"}); got != "" {
		t.Errorf("two short names resemble each other: %q", got)
	}
	if got := Meant(strings.Repeat("expect", 1<<16), members); got != "" {
		t.Errorf("a name of 384 KiB: %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abcd", "badc", 2}, {"kitten", "sitting", 3}, {"ca", "abc", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	if got := Nearest("nats.ulr", []string{"nats.url", "http.listen"}); got != "nats.url" {
		t.Error(got)
	}
}
