package main

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// stage is the node with the people whose sessions are settled: pairs play, and
// settled holds the judge's key, which alone closes.
type stage struct {
	scene   scene
	node    *clearnodetest.Node
	keyFile string
	judge   string // address
	pairs   []pair
	names   map[string]string // by address in lower case: alice or bob, of whichever pair

	mu    sync.Mutex
	nonce uint64
}

// pair is two players, who have their sessions with one another.
type pair struct {
	*stage
	alice, bob string // addresses
}

// manyPairs is so many that no wallet's history gets long.
const manyPairs = 64

func newStage(protocol, dir string) (*stage, error) {
	s := &stage{scene: sceneOf(protocol), names: map[string]string{}, keyFile: filepath.Join(dir, "judge.key")}
	for range manyPairs {
		if err := s.seat(); err != nil {
			return nil, err
		}
	}
	judge, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	s.judge = crypto.PubkeyToAddress(judge.PublicKey).Hex()
	if err := os.WriteFile(s.keyFile, []byte(hex.EncodeToString(crypto.FromECDSA(judge))), 0o600); err != nil {
		return nil, err
	}
	s.node, err = clearnodetest.Start(clearnodetest.Config{
		Protocol: protocol, Faucet: decimal.NewFromInt(1_000_000_000), MessageExpiry: messageExpiry, Work: nodeWork, RateLimit: -1,
	})
	return s, err
}

// seat adds a pair. Alice's address is below bob's: a nitronode lists participants
// by address, and the odd unit of a tie goes to the first.
func (s *stage) seat() error {
	var two []common.Address
	for range 2 {
		key, err := crypto.GenerateKey()
		if err != nil {
			return err
		}
		two = append(two, crypto.PubkeyToAddress(key.PublicKey))
	}
	slices.SortFunc(two, common.Address.Cmp)
	p := pair{s, two[0].Hex(), two[1].Hex()}
	s.names[strings.ToLower(p.alice)], s.names[strings.ToLower(p.bob)] = "alice", "bob"
	s.pairs = append(s.pairs, p)
	return nil
}

// pair is whose story of this number it is.
func (s *stage) pair(number int) pair { return s.pairs[number%len(s.pairs)] }

// nodeHost is the node's host:port.
func (s *stage) nodeHost() string {
	u, err := url.Parse(s.node.URL())
	if err != nil {
		panic(fmt.Sprintf("the node's own URL: %s", err))
	}
	return u.Host
}

// open opens and funds a session, as an app would.
func (s pair) open() (settlement.SessionID, error) {
	s.mu.Lock()
	s.nonce++
	nonce := s.nonce
	s.mu.Unlock()
	var rows []clearnodetest.Allocation
	for _, d := range s.scene.deposits {
		rows = append(rows, clearnodetest.Allocation{Participant: map[string]string{"alice": s.alice, "bob": s.bob}[d.who], Asset: d.asset, Amount: decimal.RequireFromString(d.amount)})
	}
	id, err := s.node.OpenSession(clearnodetest.Definition{
		Application: "chaos", Protocol: s.scene.definition, Participants: []string{s.alice, s.bob, s.judge},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}, rows)
	if err != nil {
		return "", err
	}
	return settlement.ParseSessionID(id)
}
