package clearnodetest

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

// Asset is a token that the node lists. The node knows it by its symbol, byte for byte; decimals are told to clients and
// enforced nowhere.
type Asset struct {
	Symbol   string
	Decimals int
	ChainID  uint32
	Token    common.Address
}

// CloseAnswer makes the answer to a close that was carried out: under which method, and with which params.
type CloseAnswer func(session string) (method string, params any)

// Config says how a node behaves. The zero value is a node like the recorded one, without money.
type Config struct {
	Listen        string            // host:port; empty: 127.0.0.1 and a free port
	Protocol      string            // what it speaks: Nitro02, Nitro04, Legacy or NitronodeV1; empty: Nitro02
	BrokerKey     *ecdsa.PrivateKey // signs answers and tokens; nil: a fresh random key
	Assets        []Asset           // nil: usdc with 6 and weth with 18 decimals, as recorded
	Faucet        decimal.Decimal   // every wallet gets this much of each asset on first sight; zero: nothing
	MessageExpiry time.Duration     // how old a private request may be, on the node's clock; zero: 60 s
	Work          time.Duration     // real time that a close works between its checks and its commit; zero: none
	Now           func() time.Time  // the node's clock; nil: time.Now
	CloseAnswer   CloseAnswer       // how a close is answered by NitroRPC, Legacy included; nil: as recorded
	Legacy        LegacyBuild       // what Legacy answers otherwise than the recorded build
	RateLimit     float64           // frames a second and connection, by the real clock; NitronodeV1 only. 0: 10, as the real node; negative: no limit
	RateBurst     int               // frames that may come at once; NitronodeV1 only. 0: 20, as the real node
	LooseOrder    bool              // transactions of one instant come in another order each time, as the real node's database may tell them; NitronodeV1 only
}

// Node is a running node. Its methods may be called from any goroutine.
type Node struct {
	cfg       Config
	dialect   dialect
	address   common.Address
	pingEvery time.Duration     // NitronodeV1; tests shorten it
	wrongKey  *ecdsa.PrivateKey // of nobody; signs what the WrongSignature fault sends
	url       string
	server    *http.Server
	accept    sync.WaitGroup

	mu        sync.Mutex // guards everything below
	life      *life      // nil while the node is away
	closed    bool
	down      bool // the database is away
	book      *book
	sessions  *register
	logins    *logins
	keys      sessionKeys
	channels  *channels          // NitronodeV1
	challenge func() challengeID // the next one; tests put recorded ones here
	faults    []*Fault
	watch     watch
}

// Start listens and serves until Close. The error is the listener's, or names a Config.Protocol that there isn't.
func Start(cfg Config) (*Node, error) {
	cfg = cfg.filled()
	spoken, err := speak(cfg.Protocol)
	if err != nil {
		return nil, fmt.Errorf("clearnodetest: %w", err)
	}
	wrong, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("clearnodetest: key: %w", err)
	}
	if cfg.BrokerKey == nil {
		if cfg.BrokerKey, err = crypto.GenerateKey(); err != nil {
			return nil, fmt.Errorf("clearnodetest: key: %w", err)
		}
	}
	n := &Node{
		cfg:       cfg,
		dialect:   spoken,
		address:   crypto.PubkeyToAddress(cfg.BrokerKey.PublicKey),
		wrongKey:  wrong,
		book:      newBook(cfg),
		sessions:  newRegister(),
		logins:    newLogins(cfg.Now()),
		keys:      sessionKeys{},
		channels:  newChannels(),
		pingEvery: v1PingEvery,
		challenge: randomChallenge,
		watch:     newWatch(),
	}
	if err := n.listen(); err != nil {
		return nil, fmt.Errorf("clearnodetest: %w", err)
	}
	return n, nil
}

func (c Config) filled() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Assets == nil {
		c.Assets = []Asset{
			{Symbol: "usdc", Decimals: 6, ChainID: 1, Token: common.HexToAddress("0x1111111111111111111111111111111111111111")},
			{Symbol: "weth", Decimals: 18, ChainID: 1, Token: common.HexToAddress("0x2222222222222222222222222222222222222222")},
		}
	}
	if c.MessageExpiry == 0 {
		c.MessageExpiry = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// URL is where clients connect, ws://host:port/ws. It stays the same while the node is stopped.
func (n *Node) URL() string { return n.url }

// Address is the broker's: the signer of every answer.
func (n *Node) Address() common.Address { return n.address }

// Fund gives a wallet an amount of an asset out of nothing; Check counts it as brought in. A negative amount is taken away.
// Connected clients aren't told.
func (n *Node) Fund(wallet common.Address, asset string, amount decimal.Decimal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.Protocol == NitronodeV1 {
		n.seeV1(wallet.Hex())
		n.fundV1(wallet.Hex(), asset, amount)
		return
	}
	n.book.see(wallet.Hex())
	n.book.fund(wallet.Hex(), asset, amount)
}
