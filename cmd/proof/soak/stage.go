package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// stage is the node with the people whose sessions are settled: pairs play, and
// settled holds the judge's key, which alone closes.
type stage struct {
	node    *clearnodetest.Node
	keyFile string
	judge   string // address
}

// pair is two players.
type pair struct{ alice, bob string }

// sessionsOfPair is how many sessions a pair has: a figure that stays small, for a
// wallet's history is read where a session is looked for in it.
const sessionsOfPair = 16

func newStage(protocol, dir string) (*stage, error) {
	judge, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	s := &stage{judge: crypto.PubkeyToAddress(judge.PublicKey).Hex(), keyFile: filepath.Join(dir, "judge.key")}
	if err := os.WriteFile(s.keyFile, []byte(hex.EncodeToString(crypto.FromECDSA(judge))), 0o600); err != nil {
		return nil, err
	}
	s.node, err = clearnodetest.Start(clearnodetest.Config{Protocol: protocol, Faucet: decimal.NewFromInt(1_000_000), RateLimit: -1})
	return s, err
}

// pairOf is who plays the session of this number. Their addresses come out of the
// number, for nobody needs their keys; alice's is the lower one, since a nitronode
// lists participants by address.
func pairOf(number uint64) pair {
	a, b := addressOf(number/sessionsOfPair*2), addressOf(number/sessionsOfPair*2+1)
	if a.Cmp(b) > 0 {
		a, b = b, a
	}
	return pair{a.Hex(), b.Hex()}
}

func addressOf(number uint64) common.Address {
	return common.BytesToAddress(crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("soak"), number)))
}

// open opens and funds a session, as an app would.
func (s *stage) open(p pair, nonce uint64) (settlement.SessionID, error) {
	id, err := s.node.OpenSession(clearnodetest.Definition{
		Application: "soak", Protocol: "NitroRPC/0.4", Participants: []string{p.alice, p.bob, s.judge},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}, []clearnodetest.Allocation{
		{Participant: p.alice, Asset: "usdc", Amount: decimal.RequireFromString(fromAlice)},
		{Participant: p.bob, Asset: "usdc", Amount: decimal.RequireFromString(fromBob)},
	})
	if err != nil {
		return "", fmt.Errorf("open session %d: %w", nonce, err)
	}
	return settlement.ParseSessionID(id)
}
