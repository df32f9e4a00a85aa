// Package workload is what the chaos run and the soak have in common before they
// judge: the simulated node, the sessions on it, a settled that is configured for it,
// and the outcomes with what each of them must pay or fail with.
package workload

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/process"
	"settled/settlement"
)

// Protocols are the generations of node.
var Protocols = []string{clearnodetest.Nitro04, clearnodetest.Nitro02, clearnodetest.Legacy, clearnodetest.NitronodeV1}

// Node is a simulated node. Every session on it is between two players and an
// arbiter, who alone closes it and whose key settled holds.
type Node struct {
	*clearnodetest.Node
	Protocol string

	terms   terms
	keyFile string
	arbiter string // address
	nonce   atomic.Uint64
}

// StartNode starts a node that limits neither money nor rates. cfg holds the rest.
// The arbiter's key is kept in dir.
func StartNode(protocol, dir string, cfg clearnodetest.Config) (*Node, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	n := &Node{Protocol: protocol, terms: termsOf(protocol), keyFile: filepath.Join(dir, "arbiter.key"), arbiter: crypto.PubkeyToAddress(key.PublicKey).Hex()}
	if err := crypto.SaveECDSA(n.keyFile, key); err != nil {
		return nil, err
	}
	cfg.Protocol, cfg.Faucet, cfg.RateLimit = protocol, decimal.NewFromInt(1_000_000_000), -1
	n.Node, err = clearnodetest.Start(cfg)
	return n, err
}

// Pair is two players, by address. Alice's address is the lower one: a nitronode lists
// participants by address, and the first gets the odd unit of an even split.
type Pair struct{ Alice, Bob string }

// PairOf derives a pair from its number. Nobody needs the players' keys.
func PairOf(number uint64) Pair {
	address := func(n uint64) common.Address {
		return common.BytesToAddress(crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("player"), n)))
	}
	a, b := address(2*number), address(2*number+1)
	if a.Cmp(b) > 0 {
		a, b = b, a
	}
	return Pair{a.Hex(), b.Hex()}
}

// OpenSession opens and funds a session.
func (n *Node) OpenSession(p Pair) (settlement.SessionID, error) {
	var deposits []clearnodetest.Allocation
	for _, d := range n.terms.deposits {
		participant := p.Alice
		if d.who == "bob" {
			participant = p.Bob
		}
		deposits = append(deposits, clearnodetest.Allocation{Participant: participant, Asset: d.asset, Amount: decimal.RequireFromString(d.amount)})
	}
	id, err := n.Node.OpenSession(clearnodetest.Definition{
		Application: "proof", Protocol: n.terms.definition, Participants: []string{p.Alice, p.Bob, n.arbiter},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: n.nonce.Add(1),
	}, deposits)
	if err != nil {
		return "", fmt.Errorf("open a session: %w", err)
	}
	return settlement.ParseSessionID(id)
}

// Settled is a `settled serve` process.
type Settled struct {
	*process.Process
	URL string // of its HTTP server
}

// Deployment is what differs between the settled processes.
type Deployment struct {
	Name, Dir, Logs   string
	NATS, Node        string // URLs
	Replicas          int    // of streams
	Clearnode, Others string // further lines of the configuration: of its clearnode section, and sections
}

const configuration = `nats: {url: %q, replicas: %d}
clearnode:
  url: %q
  protocol: %s
  node_address: %q
  key_files: [%q]
%s
http: {listen: "127.0.0.1:%d"}
policies:
  no_show:
    - {to: provider, share: "0.5"}
    - {to: funders, share: remaining}
log: {level: info, format: json}
%s
`

// NewSettled writes the configuration of a settled without starting it.
func (n *Node) NewSettled(p process.Programs, d Deployment) (*Settled, error) {
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(d.Dir, d.Name+".yaml")
	text := fmt.Sprintf(configuration, d.NATS, d.Replicas, d.Node, n.Protocol, n.Address().Hex(), n.keyFile, d.Clearnode, port, d.Others)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return &Settled{process.New(d.Logs, d.Name, p.Settled, []string{"serve", "--config", file}, nil), fmt.Sprintf("http://127.0.0.1:%d", port)}, nil
}
