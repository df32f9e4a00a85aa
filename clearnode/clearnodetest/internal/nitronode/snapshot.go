package nitronode

import (
	"encoding/json"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

// ownState is what a nitronode keeps when its process ends.
type ownState struct {
	Transactions []savedTransaction
	Escrows      []channelName
	Keys         []savedKey
	States       map[string][]state // by session
	Submissions  map[string][]*Submission
}

type savedTransaction struct {
	transaction
	Exactly time.Time
}

type channelName struct{ Wallet, Asset string }

type savedKey struct{ Address, Application, Wallet string }

// OwnState is the transactions, the escrows and session keys, and the states and updates of the sessions.
func (n *Node) OwnState() any {
	own := ownState{States: map[string][]state{}, Submissions: n.submissions}
	for _, t := range n.channels.transactions {
		own.Transactions = append(own.Transactions, savedTransaction{*t, t.at})
	}
	for c, pending := range n.channels.escrows {
		if pending {
			own.Escrows = append(own.Escrows, channelName{c.wallet, c.asset})
		}
	}
	for k, wallet := range n.channels.keys {
		own.Keys = append(own.Keys, savedKey{k.address, k.application, wallet})
	}
	for s, states := range n.states {
		own.States[s.ID] = states
	}
	return own
}

// RestoreOwn replaces them. The number of a channel's states is that of its transactions.
func (n *Node) RestoreOwn(raw json.RawMessage) error {
	own := ownState{Submissions: map[string][]*Submission{}}
	err := json.Unmarshal(raw, &own)
	n.channels, n.states, n.submissions = newChannels(), map[*server.Session][]state{}, own.Submissions
	for _, saved := range own.Transactions {
		t := saved.transaction
		t.at = saved.Exactly
		n.channels.transactions = append(n.channels.transactions, &t)
		wallet := t.To
		if t.Kind == homeWithdrawal || t.Kind == commit {
			wallet = t.From
		}
		n.channels.states[channel{server.Checksum(wallet), t.Asset}]++
	}
	for _, c := range own.Escrows {
		n.channels.escrows[channel{c.Wallet, c.Asset}] = true
	}
	for _, k := range own.Keys {
		n.channels.keys[sessionKey{k.Address, k.Application}] = k.Wallet
	}
	for id, states := range own.States {
		if s := n.Sessions.ByID[id]; s != nil {
			n.states[s] = states
		}
	}
	return err
}
