package legacy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// recording is every frame that was sent to the legacy node, or came from it.
func recording(t testing.TB, dir string) []protocoltest.Frame {
	t.Helper()
	return protocoltest.ReadRecording(t, "../../testdata/legacy/legacy.sqlite.jsonl", dir)
}

func recordedCase(t testing.TB, dir, name string) protocoltest.Frame {
	t.Helper()
	all := recording(t, dir)
	at := slices.IndexFunc(all, func(r protocoltest.Frame) bool { return r.Case == name && !strings.Contains(r.Frame, `"bu"`) })
	if at < 0 {
		t.Fatalf("%s %s is not recorded", dir, name)
	}
	return all[at]
}

// sent is a recorded request, taken apart.
type sent struct {
	raw    []byte
	id     uint64
	method string
	params []json.RawMessage
	stamp  uint64
	sigs   []string
}

func parseSent(t testing.TB, r protocoltest.Frame) sent {
	t.Helper()
	var frame struct {
		Req json.RawMessage `json:"req"`
		Sig []string        `json:"sig"`
	}
	if err := json.Unmarshal([]byte(r.Frame), &frame); err != nil {
		t.Fatal(r.Case, err)
	}
	s := sent{raw: frame.Req, sigs: frame.Sig}
	if err := json.Unmarshal(frame.Req, &[]any{&s.id, &s.method, &s.params, &s.stamp}); err != nil {
		t.Fatal(r.Case, err)
	}
	return s
}

// node speaks to the recorded node with some keys.
func node(t testing.TB, keys ...int64) *Node {
	t.Helper()
	broker := protocoltest.NewKey(t, 0xb0).Address()
	c := protocoltest.Client{Node: &broker}
	for _, k := range keys {
		c.Keys = append(c.Keys, protocoltest.NewKey(t, k))
	}
	return New(c, &protocol.Settings{Signers: c.Keys})
}

// recordedSession is the session of a recorded close, as its definition was.
func recordedSession(t testing.TB, plan closeParams, weights ...int64) settlement.Session {
	t.Helper()
	s := settlement.Session{ID: plan.Session, Open: true, Quorum: 100}
	for i, a := range plan.Allocations {
		address, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			t.Fatal(err)
		}
		s.Participants = append(s.Participants, settlement.Participant{Address: address, Spelling: a.Participant, Weight: weights[i]})
	}
	return s
}

// TestLegacyCloseFrames makes the recorded closes again, byte for byte, signatures
// included, from plans as settlement makes them: every asset for everybody.
func TestLegacyCloseFrames(t *testing.T) {
	for _, tc := range []struct {
		name    string
		keys    []int64
		weights []int64
	}{
		{"close_ok", []int64{3}, []int64{0, 0, 100}},
		{"close_already_closed", []int64{3}, []int64{0, 0, 100}},
		{"close_5050_both", []int64{1, 2}, []int64{50, 50, 0}},
		{"stale_ts", []int64{3}, []int64{0, 0, 100}},
	} {
		r := recordedCase(t, "send", tc.name)
		s := parseSent(t, r)
		var want closeParams
		if err := json.Unmarshal(s.params[0], &want); err != nil {
			t.Fatal(err)
		}
		l := node(t, tc.keys...)
		plan := settlement.Plan{Session: want.Session, Allocations: everything(want.Allocations)}
		got, err := l.prepareAt(t.Context(), settlement.Outcome{}, plan, recordedSession(t, want, tc.weights...), s.id, s.stamp)
		if err != nil || string(got.Frame) != r.Frame {
			t.Errorf("%s: %v\ngot  %s\nwant %s", tc.name, err, got.Frame, r.Frame)
		}
		if !got.Closes || got.Ref.Digest != protocol.Digest(s.raw) || got.Ref.ID != s.id || got.Ref.Timestamp != s.stamp {
			t.Errorf("%s: %+v", tc.name, got.Ref)
		}
		if again, err := l.VerifyPrepared(got); err != nil || string(again.Frame) != r.Frame || again.Method != nitrorpc.CloseMethod {
			t.Errorf("%s: reread %+v, %v", tc.name, again, err)
		}
	}
}

// everything is the plan that leads to these rows.
func everything(rows []settlement.Allocation) []settlement.Allocation {
	var assets []settlement.Asset
	for _, a := range rows {
		if !slices.Contains(assets, a.Asset) {
			assets = append(assets, a.Asset)
		}
	}
	slices.Sort(assets)
	var plan []settlement.Allocation
	for _, a := range rows {
		for _, asset := range assets {
			row := settlement.Allocation{Participant: a.Participant, Asset: asset}
			if asset == a.Asset {
				row.Amount = a.Amount
			}
			plan = append(plan, row)
		}
	}
	return plan
}

// TestLegacySignInFrames makes the recorded sign-in again.
func TestLegacySignInFrames(t *testing.T) {
	l := node(t, 3)
	for _, name := range []string{"auth_ok", "auth_lower_case_address"} {
		asked := recordedCase(t, "send", name+"/auth_request")
		s := parseSent(t, asked)
		var login string
		if err := json.Unmarshal(s.params[0], &login); err != nil {
			t.Fatal(err)
		}
		got, err := encodeRequest(s.id, s.method, login, s.stamp)
		if err != nil || string(nitrorpc.Envelope(got)) != asked.Frame {
			t.Errorf("%s: got %s, %v", asked.Case, nitrorpc.Envelope(got), err)
		}
		answered := recordedCase(t, "send", name+"/auth_verify")
		v := parseSent(t, answered)
		var p struct {
			Challenge string `json:"challenge"`
		}
		if err := json.Unmarshal(v.params[0], &p); err != nil {
			t.Fatal(err)
		}
		r, err := l.verifyRequest(t.Context(), v.id, login, p.Challenge, v.stamp)
		if err != nil || string(r.Frame) != answered.Frame {
			t.Errorf("%s: got %s, %v\nwant %s", answered.Case, r.Frame, err, answered.Frame)
		}
	}
}

// TestLegacyReadFrames makes the recorded reads again.
func TestLegacyReadFrames(t *testing.T) {
	for name, params := range map[string]any{
		"ping": nil, "get_config": nil, "get_assets": nil,
		"app_definition":      nitrorpc.DefinitionParams{Session: "0x7fc7f015f3dbf30147909d5a4e47876736bbc4cc9ad3643cce527b8104f220af"},
		"app_sessions_open":   sessionsParams{"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69", "open"},
		"app_sessions_closed": sessionsParams{"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69", "closed"},
	} {
		r := recordedCase(t, "send", name)
		s := parseSent(t, r)
		got, err := encodeRequest(s.id, s.method, params, s.stamp)
		if err != nil || string(nitrorpc.Envelope(got)) != r.Frame {
			t.Errorf("%s: %s, %v\nwant %s", name, nitrorpc.Envelope(got), err, r.Frame)
		}
	}
}

// TestLegacyBodyAsTheNodeWritesIt: what is escaped when the node marshals it again.
func TestLegacyBodyAsTheNodeWritesIt(t *testing.T) {
	got, err := encodeRequest(1, nitrorpc.CloseMethod, closeParams{"0xab", []settlement.Allocation{{Participant: "0x1", Asset: "a&<b>"}}}, 2)
	want := `[1,"close_app_session",[{"app_session_id":"0xab","allocations":[{"participant":"0x1","asset":"a\u0026\u003cb\u003e","amount":"0"}]}],2]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// TestRandomSpelling: another spelling of the same account, and none of the usual.
func TestRandomSpelling(t *testing.T) {
	for _, n := range []int64{1, 2, 3} {
		usual := protocoltest.NewKey(t, n).Address().String()
		got := randomSpelling(usual)
		if !strings.EqualFold(got, usual) || got == usual || got == strings.ToLower(usual) || !strings.HasPrefix(got, "0x") {
			t.Errorf("%s becomes %s", usual, got)
		}
	}
	if bare := "0x1111111111111111111111111111111111111111"; randomSpelling(bare) != bare {
		t.Error("digits were changed")
	}
}
