package clearnodetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestStateOverARestart: a node that starts with another's state has its sessions, balances, transactions and records, with the
// same bytes, and continues where that one stopped.
func TestStateOverARestart(t *testing.T) {
	for _, protocol := range []string{Legacy, Nitro02, Nitro04, NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Protocol: protocol, Faucet: amount("100"), BrokerKey: key(9)}
			n := start(t, cfg)
			paid := open(t, n, 1)
			closeGame(t, n, paid)
			half := open(t, n, 2)
			if protocol == NitronodeV1 {
				n.HoldEscrow(walletOf(playerB), "weth")
				n.AddSessionKey(walletOf(playerA), common.HexToAddress("0x01"), "cnharness")
			}
			state, err := n.State()
			must(t, err)

			other, err := StartFrom(cfg, state)
			must(t, err)
			t.Cleanup(func() { must(t, other.Close()) })
			again, err := other.State()
			must(t, err)
			if !bytes.Equal(state, again) {
				t.Fatalf("another state after a restart:\n%s\n%s", state, again)
			}
			if ids := other.SessionIDs(); len(ids) != 2 || ids[0] != paid || ids[1] != half {
				t.Errorf("sessions %v", ids)
			}
			d, ok := other.SessionDetail(paid)
			if !ok || d.Status != "closed" || len(d.Signers) != 1 || len(d.Entries) == 0 || d.Definition.Nonce != 1 || len(d.Payouts) == 0 {
				t.Errorf("%+v", d)
			}
			if _, err := other.OpenSession(gameDefinition(2), rows("10", "5")); err == nil {
				t.Error("a session was opened twice")
			}
			closeGame(t, other, half)
			wantStatus(t, other, half, "closed")
			wantChecked(t, other)

			must(t, other.Restore(nil))
			if ids := other.SessionIDs(); len(ids) != 0 {
				t.Errorf("sessions %v without a state", ids)
			}
			open(t, other, 1)
			wantChecked(t, other)
		})
	}
}

// closeGame closes a session of open, and pays player A 7 and player B 8.
func closeGame(t *testing.T, n *Node, id string) {
	t.Helper()
	if n.nitronode == nil {
		must(t, n.CloseElsewhere(id, allRows("7", "8")))
		return
	}
	for i, intent := range []Intent{IntentOperate, IntentClose} {
		must(t, n.Submit(StateUpdate{Session: id, Intent: intent, Version: uint64(4 + i), Allocations: rows("7", "8")}, key(people["judge"])))
	}
}

// TestStateRefused: a state of another generation, or no state, is an error.
func TestStateRefused(t *testing.T) {
	state, err := start(t, Config{Protocol: Legacy}).State()
	must(t, err)
	for text, want := range map[string]string{string(state): "of a node of nitrorpc/legacy", "{": "state"} {
		if _, err := StartFrom(Config{Protocol: NitronodeV1}, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestFaultIf: a fault with a condition strikes only the requests for which it holds.
func TestFaultIf(t *testing.T) {
	n := start(t, Config{Protocol: NitronodeV1})
	matched := 0
	n.Inject(Fault{Method: "node.v1.ping", Times: -1, Kind: Error, Text: "refused", If: func() bool { matched++; return matched%2 == 0 }})
	c := dial(t, n)
	for i := range 4 {
		send(t, c, `[1,1,"node.v1.ping",{},0]`)
		if refused := strings.Contains(receive(t, c), "refused"); refused != (i%2 == 1) {
			t.Errorf("request %d: refused is %v", i+1, refused)
		}
	}
	if n.Finished() != 4 {
		t.Errorf("%d requests are finished", n.Finished())
	}
}
