package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"settled/settlement"
)

// PageSize is the most rows that a node returns at once.
const PageSize = 100

// ErrAbsent says that one read found no such session. The node may not have been able to
// say, so a second read has to confirm it.
var ErrAbsent = errors.New("no definition and no transactions")

// ErrAppeared says that the second read found a session that the first one did not.
var ErrAppeared = errors.New("the node did not know it at first, and then did; it will be read again")

// ErrNoParticipants fails a session whose definition lists none, explicitly: nobody can
// be paid, and a definition never changes.
var ErrNoParticipants = settlement.Fail(settlement.NotAParticipant, "the session's definition names no participants")

// Snapshot is a session as one read shows it.
type Snapshot struct {
	settlement.Session
	Took time.Duration
}

// Holding is one account's part of one asset.
type Holding struct {
	Wallet settlement.Address
	Asset  settlement.Asset
}

const (
	maxDecimals  = 77 // far above any token's: more is no answer
	bookDecimals = 18 // of every amount in the nodes' books
)

// Decimals checks the decimals of an asset. Never more than the nodes' books hold, which
// keep amounts as DECIMAL(64,18): their database would round what is finer, and the sums
// would no longer be equal.
func Decimals(symbol string, decimals int32) (int32, error) {
	if decimals < 0 || decimals > maxDecimals {
		return 0, fmt.Errorf("asset %s has %d decimals", Quote(symbol), decimals)
	}
	return min(decimals, bookDecimals), nil
}

// Assets caches the assets that the node lists, with their decimals.
type Assets struct {
	Method string
	Params any
	Read   func(Answer) (map[settlement.Asset]int32, error)
	listed atomic.Pointer[map[settlement.Asset]int32]
}

// Question reads the list and keeps it.
func (l *Assets) Question() Question {
	return Question{l.Method, l.Params, func(a Answer) error {
		listed, err := l.Read(a)
		if err == nil {
			l.listed.Store(&listed)
		}
		return err
	}}
}

// Listed is the cached list; nil before it was read.
func (l *Assets) Listed() map[settlement.Asset]int32 {
	if listed := l.listed.Load(); listed != nil {
		return *listed
	}
	return nil
}

// Decimals are those of an asset, and whether it is listed. The list is read again when
// the asset is not in it, which may be new, unless fresh says that it was read just now.
func (l *Assets) Decimals(ctx context.Context, c Conn, asset settlement.Asset, fresh *bool) (int32, bool, error) {
	n, listed := l.Listed()[asset]
	if !listed && !*fresh {
		if err := c.AskAll(ctx, l.Question()); err != nil {
			return 0, false, err
		}
		*fresh = true
		n, listed = l.Listed()[asset]
	}
	return n, listed, nil
}

// ErrUnlisted says that the node does not list an asset of a session.
func ErrUnlisted(asset settlement.Asset) error {
	return fmt.Errorf("the node does not list asset %s, which is in the session: its smallest unit is not known", Quote(string(asset)))
}
