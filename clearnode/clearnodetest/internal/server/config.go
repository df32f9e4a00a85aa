package server

import (
	"crypto/ecdsa"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"
)

// Asset is a token that the node lists. The node identifies it by its symbol, byte for byte.
type Asset struct {
	Symbol   string
	Decimals int // reported to clients; only NitronodeV1 enforces them
	ChainID  uint32
	Token    common.Address
}

// CloseAnswer builds the answer to a successful close: its method and its params.
type CloseAnswer func(session string) (method string, params any)

// LegacyBuild selects what other builds of the legacy node answer differently. The zero value is the recorded build.
type LegacyBuild struct {
	AppSessionClosed bool // the answer to a close has the method app_session_closed
	ErrFrames        bool // errors are sent as {"err":[id,code,"message"]}
}

// Config configures a node. The zero value is a node like the recorded one, without money.
type Config struct {
	Listen        string            // host:port; empty: 127.0.0.1 and a free port
	Protocol      string            // Nitro02, Nitro04, Legacy or NitronodeV1; empty: Nitro02
	BrokerKey     *ecdsa.PrivateKey // signs answers and tokens; nil: a new random key
	Assets        []Asset           // nil: usdc with 6 and weth with 18 decimals, as recorded
	Faucet        decimal.Decimal   // every wallet receives this amount of each asset when the node first sees it
	MessageExpiry time.Duration     // maximum age of a private request, by the node's clock; zero: 60 s
	Work          time.Duration     // real time between the checks of a close and its commit
	Now           func() time.Time  // the node's clock; nil: time.Now
	CloseAnswer   CloseAnswer       // answer to a close in NitroRPC and Legacy; nil: as recorded
	Legacy        LegacyBuild       // the build that Legacy simulates
	RateLimit     float64           // NitronodeV1: frames per second and connection, in real time; 0: 10; negative: no limit
	RateBurst     int               // NitronodeV1: frames that may arrive at once; 0: 20
	LooseOrder    bool              // NitronodeV1: shuffle transactions with equal times, as the real database may
}

// WithDefaults replaces the zero values by their defaults.
func (c Config) WithDefaults() Config {
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
