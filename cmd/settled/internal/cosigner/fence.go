package cosigner

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"settled/settlement"
)

// cosignFence prevents a co-signer from signing two different closes of one session that
// could both be executed. It remembers the last signed request of each session until it
// has expired. At the start it waits until what a previous process signed has expired.
//
// It covers one process: two that sign with the same key don't share it.
type cosignFence struct {
	Opens time.Time // by our clock: what was signed before the start has expired
	limit int       // signatures remembered

	locks [64]sync.Mutex // by session: serialize check and record
	seed  maphash.Seed

	mu      sync.Mutex
	signed  map[settlement.SessionID]signedClose
	sweepAt int // the number of them at which those that ran out are forgotten
}

// signedClose is a signed request, and until when it may be executed.
type signedClose struct {
	payload [sha256.Size]byte
	until   time.Time // on the node's clock
}

const (
	maxSigned    = 100_000 // of some 200 bytes; 1,000 a second with the default times
	minSweepSize = 1024
)

// NewCosignFence returns a fence that opens after the lifetime of a request.
func NewCosignFence(now time.Time, life time.Duration) *cosignFence {
	return &cosignFence{
		Opens: now.Add(life), limit: maxSigned, seed: maphash.MakeSeed(),
		signed: map[settlement.SessionID]signedClose{}, sweepAt: minSweepSize,
	}
}

// sign calls signFunc if no other request can still be executed. signFunc returns until
// when the request that it signed may be executed.
func (f *cosignFence) sign(s settlement.Session, payload []byte, now time.Time, signFunc func() (time.Time, error)) error {
	turn := &f.locks[maphash.String(f.seed, string(s.ID))%uint64(len(f.locks))]
	turn.Lock()
	defer turn.Unlock()
	digest := sha256.Sum256(payload)
	if w := f.check(s, digest, now); w != nil {
		return w
	}
	until, err := signFunc()
	if err != nil {
		return err
	}
	if until.IsZero() {
		return errors.New("a signed request of this session would never expire")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signed[s.ID] = signedClose{digest, until}
	return nil
}

// check returns what the request has to wait for, if anything.
func (f *cosignFence) check(s settlement.Session, digest [sha256.Size]byte, now time.Time) *settlement.Waiting {
	if left := f.Opens.Sub(now); left > 0 {
		return &settlement.Waiting{
			Reason: settlement.InDoubt, Delay: left, Until: f.Opens,
			Err: errors.New("this co-signer was started not long ago, and what it signed before may still take effect"),
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last, found := f.signed[s.ID]
	if found && last.payload == digest {
		return nil
	}
	if found && s.AsOf.Before(last.until) {
		return &settlement.Waiting{
			Reason: settlement.InDoubt, Delay: last.until.Sub(s.AsOf), Until: last.until,
			Err: errors.New("another request that I signed for this session may still take effect"),
		}
	}
	if !s.ConfirmedStable {
		return &settlement.Waiting{Reason: settlement.InDoubt, Err: errors.New("the read was too slow to prove that the session is open")}
	}
	return f.makeRoom(s.AsOf)
}

// makeRoom removes expired requests. A full fence allows no signature, since forgetting a
// valid request would be unsafe.
func (f *cosignFence) makeRoom(now time.Time) *settlement.Waiting {
	if len(f.signed) < min(f.sweepAt, f.limit) {
		return nil
	}
	for id, s := range f.signed {
		if !now.Before(s.until) {
			delete(f.signed, id)
		}
	}
	f.sweepAt = max(minSweepSize, 2*len(f.signed))
	if len(f.signed) >= f.limit {
		return &settlement.Waiting{Reason: settlement.InDoubt, Err: fmt.Errorf("%d requests that I signed may still take effect, and I can't remember more", len(f.signed))}
	}
	return nil
}
