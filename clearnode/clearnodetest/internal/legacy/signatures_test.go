package legacy

import (
	"fmt"
	"strings"
	"testing"

	"settled/clearnode/internal/protocoltest"
)

// The recordings' wallets.
const (
	playerA  = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
	playerB  = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	judge    = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	stranger = "0xe1AB8145F7E55DC933d51a18c793F901A3A0b276"
)

// recordedSigners are the signers of the recorded frames that aren't signed by the judge alone, nor, for a new session, by the
// players. The unknown addresses were recovered by the real node too, from signatures of bytes that it marshals differently.
var recordedSigners = map[string]string{
	"auth_wrong_key/auth_verify":   stranger,
	"auth_verify_unsorted_keys":    "0x17e52e97a07162F9355eee85BA6Fb341e900342A",
	"amount_number_signed_as_sent": "0xA157a04d5AE778331C58934c472e5ab7834C0c46",
	"extra_field_signed_as_sent":   "0x5F73a848746b52E33aa041A9Be3dC25ca46448dB",
	"no_signature":                 "",
	"zero_weight_signer":           playerA,
	"judge_and_zero_weight_signer": judge + " " + playerA,
	"unknown_signer":               stranger,
	"duplicate_signature":          judge + " " + judge,
	"close_5050_half":              playerA,
	"close_5050_both":              playerA + " " + playerB,
	"two_assets_each_keeps_own":    playerA + " " + playerB,
}

// TestSignersAsRecorded recovers every recorded signature over the bytes that the node reads from its frame.
func TestSignersAsRecorded(t *testing.T) {
	count := map[string]int{}
	for _, line := range protocoltest.ReadRecording(t, "../../testdata/legacy/legacy.sqlite.jsonl", "send") {
		m, err := decode([]byte(line.Frame))
		if err != nil || len(m.sigs) == 0 {
			continue
		}
		want, ok := recordedSigners[line.Case]
		switch {
		case ok:
		case m.Method == "create_app_session":
			want = playerA + " " + playerB
		default:
			want = judge
		}
		if got := signersOf(t, m); got != want {
			t.Errorf("%s: signed by %s, want %s", line.Case, got, want)
		}
		count[m.Method]++
	}
	if fmt.Sprint(count) != "map[auth_verify:5 close_app_session:24 create_app_session:19]" {
		t.Errorf("signed frames: %v", count)
	}
}

func signersOf(t *testing.T, m *message) string {
	t.Helper()
	signed := m.data.canonical()
	switch m.Method {
	case "close_app_session":
		var p closeParams
		if err := m.parse(&p); err != nil {
			t.Fatal(err)
		}
		signed = m.data.withParams([]closeParams{p})
	case "create_app_session":
		var p Creation
		if err := m.parse(&p); err != nil {
			t.Fatal(err)
		}
		signed = m.data.withParams([]Creation{p})
	}
	var all []string
	for _, sig := range m.sigs {
		signer, err := recoverSigner(signed, sig)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, signer)
	}
	return strings.Join(all, " ")
}
