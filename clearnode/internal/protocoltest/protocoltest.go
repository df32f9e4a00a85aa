// Package protocoltest holds what the tests of the generations share.
package protocoltest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Key is a public test key.
type Key struct{ private *ecdsa.PrivateKey }

// NewKey is the key whose number it is.
func NewKey(t testing.TB, number int64) Key {
	t.Helper()
	private, err := crypto.ToECDSA(big.NewInt(number).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return Key{private}
}

// Address is the key's account.
func (k Key) Address() settlement.Address {
	return settlement.Address(crypto.PubkeyToAddress(k.private.PublicKey))
}

// Sign signs a digest.
func (k Key) Sign(_ context.Context, digest [32]byte) ([]byte, error) {
	sig, err := crypto.Sign(digest[:], k.private)
	if err == nil {
		sig[64] += 27
	}
	return sig, err
}

// Client is a protocol.Client whose keys all sign.
type Client struct {
	Node *settlement.Address // nil: not known
	Keys []protocol.Signer
}

func (c Client) NodeTime() time.Time { return time.Now() }

func (c Client) Address() (a settlement.Address, known bool) {
	if c.Node == nil {
		return a, false
	}
	return *c.Node, true
}

func (c Client) VerifyAddress(a settlement.Address) error {
	if c.Node != nil && a != *c.Node {
		return errors.New("another address")
	}
	return nil
}

func (c Client) CloseStamp() (uint64, error) { return protocol.Millis(time.Now()), nil }

func (c Client) CheckStamp(uint64) error { return nil }

func (c Client) ValidUntil(stamp uint64) time.Time {
	return protocol.FromMillis(stamp).Add(80 * time.Second)
}

func (c Client) Sign(ctx context.Context, key protocol.Signer, payload []byte, scheme protocol.Scheme) ([]byte, error) {
	return scheme.Sign(ctx, key, payload)
}

func (c Client) CollectSignatures(ctx context.Context, _ string, payload []byte, scheme protocol.Scheme, _ settlement.Outcome, _ settlement.Plan, _ settlement.Session) ([]string, error) {
	var all []string
	for _, k := range c.Keys {
		sig, err := scheme.Sign(ctx, k, payload)
		if err != nil {
			return nil, err
		}
		all = append(all, hexutil.Encode(sig))
	}
	return all, nil
}

func (c Client) DisableKey(settlement.Address, error) {}

// Conn is a protocol.Conn without a connection.
type Conn struct {
	protocol.Conn
	Dropped error
}

func (c *Conn) Drop(cause error) { c.Dropped = cause }

func (c *Conn) OnlyPending() uint64 { return 0 }

// Frame is a line of a recording.
type Frame struct {
	Dir   string `json:"dir"`
	Case  string `json:"case"`
	Frame string `json:"frame"`
}

// ReadRecording reads the frames of a recording that were sent ("send") or received
// ("recv").
func ReadRecording(t testing.TB, path, dir string) (frames []Frame) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Frame
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Dir == dir {
			frames = append(frames, r)
		}
	}
	if err := lines.Err(); err != nil || len(frames) == 0 {
		t.Fatalf("%d frames are recorded in %s, %v", len(frames), path, err)
	}
	return frames
}

// ReadJSON reads a file of test data.
func ReadJSON(t testing.TB, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(path, err)
	}
}
