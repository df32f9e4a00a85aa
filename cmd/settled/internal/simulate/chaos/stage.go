package main

import (
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// stage is the node with the people whose sessions are settled: alice and bob play,
// and settled holds the judge's key, which alone closes.
type stage struct {
	scene   scene
	node    *clearnodetest.Node
	keyFile string
	people  map[string]string // name to address

	mu    sync.Mutex
	nonce uint64
}

func newStage(protocol, dir string) (*stage, error) {
	s := &stage{scene: sceneOf(protocol), people: map[string]string{}, keyFile: filepath.Join(dir, "judge.key")}
	var keys []*ecdsa.PrivateKey
	for range 3 {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	// Alice's address is below bob's: a nitronode lists participants by address, and
	// the odd unit of a tie goes to the first.
	slices.SortFunc(keys[:2], func(a, b *ecdsa.PrivateKey) int {
		return crypto.PubkeyToAddress(a.PublicKey).Cmp(crypto.PubkeyToAddress(b.PublicKey))
	})
	for i, name := range []string{"alice", "bob", "judge"} {
		s.people[name] = crypto.PubkeyToAddress(keys[i].PublicKey).Hex()
	}
	if err := os.WriteFile(s.keyFile, []byte(hex.EncodeToString(crypto.FromECDSA(keys[2]))), 0o600); err != nil {
		return nil, err
	}
	var err error
	s.node, err = clearnodetest.Start(clearnodetest.Config{
		Protocol: protocol, Faucet: decimal.NewFromInt(1_000_000_000), MessageExpiry: messageExpiry, Work: nodeWork, RateLimit: -1,
	})
	return s, err
}

// nodeHost is the node's host:port.
func (s *stage) nodeHost() string {
	u, err := url.Parse(s.node.URL())
	if err != nil {
		panic(fmt.Sprintf("the node's own URL: %s", err))
	}
	return u.Host
}

// open opens and funds a session, as an app would.
func (s *stage) open() (settlement.SessionID, error) {
	s.mu.Lock()
	s.nonce++
	nonce := s.nonce
	s.mu.Unlock()
	var rows []clearnodetest.Allocation
	for _, d := range s.scene.deposits {
		rows = append(rows, clearnodetest.Allocation{Participant: s.people[d.who], Asset: d.asset, Amount: decimal.RequireFromString(d.amount)})
	}
	id, err := s.node.OpenSession(clearnodetest.Definition{
		Application: "chaos", Protocol: s.scene.definition, Participants: []string{s.people["alice"], s.people["bob"], s.people["judge"]},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}, rows)
	if err != nil {
		return "", err
	}
	return settlement.ParseSessionID(id)
}
