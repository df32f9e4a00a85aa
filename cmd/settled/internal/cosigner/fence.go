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

// cosignFence keeps a co-signer from helping two different closes of one session
// into flight, whatever it is asked for. It remembers what it signed last for each
// session whose requests expire, until that can land no more. What a former
// process signed it can't know, so it begins by waiting that out.
//
// It holds for one process: of two that sign with the same key each has its own.
type cosignFence struct {
	Opens time.Time // by our own clock: what was signed before the start can land no more
	most  int       // signatures remembered

	turns [64]sync.Mutex // by session: between the look and the note nobody else signs
	seed  maphash.Seed

	mu      sync.Mutex
	signed  map[settlement.SessionID]signedClose
	sweepAt int // the number of them at which those that ran out are forgotten
}

// signedClose is one request that was signed: which, and until when it may land.
type signedClose struct {
	payload [sha256.Size]byte
	until   time.Time // on the node's clock
}

const (
	mostSigned   = 100_000 // of some 200 bytes; 1,000 a second with the default times
	fewestToSkim = 1024
)

// NewCosignFence is closed for one whole life of a request.
func NewCosignFence(now time.Time, life time.Duration) *cosignFence {
	return &cosignFence{
		Opens: now.Add(life), most: mostSigned, seed: maphash.MakeSeed(),
		signed: map[settlement.SessionID]signedClose{}, sweepAt: fewestToSkim,
	}
}

// sign calls signFunc where what it is to sign can't meet another request in
// flight. signFunc says until when what it signed may land.
func (f *cosignFence) sign(s settlement.Session, payload []byte, now time.Time, signFunc func() (time.Time, error)) error {
	turn := &f.turns[maphash.String(f.seed, string(s.ID))%uint64(len(f.turns))]
	turn.Lock()
	defer turn.Unlock()
	digest := sha256.Sum256(payload)
	if w := f.held(s, digest, now); w != nil {
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

// held says what the request has to wait for, if anything.
func (f *cosignFence) held(s settlement.Session, digest [sha256.Size]byte, now time.Time) *settlement.Waiting {
	if left := f.Opens.Sub(now); left > 0 {
		return &settlement.Waiting{
			Reason: settlement.InDoubt, Delay: left, Until: f.Opens,
			Err: errors.New("this co-signer was started not long ago, and what it signed before may still land"),
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
			Err: errors.New("another request that I signed for this session may still land"),
		}
	}
	if !s.ConfirmedStable {
		return &settlement.Waiting{Reason: settlement.InDoubt, Err: errors.New("the session looks open, but the node or my connection was slow")}
	}
	return f.room(s.AsOf)
}

// room forgets what has run out. One that is full signs nothing: forgetting would
// be worse.
func (f *cosignFence) room(now time.Time) *settlement.Waiting {
	if len(f.signed) < min(f.sweepAt, f.most) {
		return nil
	}
	for id, s := range f.signed {
		if !now.Before(s.until) {
			delete(f.signed, id)
		}
	}
	f.sweepAt = max(fewestToSkim, 2*len(f.signed))
	if len(f.signed) >= f.most {
		return &settlement.Waiting{Reason: settlement.InDoubt, Err: fmt.Errorf("of %d requests that I signed each may still land, and I can't remember more", len(f.signed))}
	}
	return nil
}
