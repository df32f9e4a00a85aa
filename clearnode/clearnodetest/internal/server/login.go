package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Limits of logins in both generations that have them.
const (
	ChallengeLifetime = 5 * time.Minute
	LoginLifetime     = 24 * time.Hour // since the wallet's last private request
	MaxChallenges     = 1000
	SweepInterval     = 10 * time.Minute // until then used and expired challenges count too
)

// Logins are the challenges and logins. They exist only in memory: a restart forgets them.
type Logins struct {
	Challenges map[ChallengeID]*Challenge
	swept      time.Time
	LastUse    map[string]time.Time // by wallet: the last login or private request
}

// Challenge is a login request that waits for its signature.
type Challenge struct {
	ID      ChallengeID
	Address string // as spelled in the request, with 0x
	Request any    // the rest of the request
	Expires time.Time
	Used    bool
}

func newLogins(now time.Time) *Logins {
	return &Logins{Challenges: map[ChallengeID]*Challenge{}, swept: now, LastUse: map[string]time.Time{}}
}

// NewLoginChallenge makes a challenge for an address. It returns nil if too many are pending.
func (n *State) NewLoginChallenge(address string, request any) *Challenge {
	now, l := n.Config.Now(), n.Logins
	if now.Sub(l.swept) >= SweepInterval {
		l.swept = now
		for id, c := range l.Challenges {
			if now.After(c.Expires) {
				delete(l.Challenges, id)
			}
		}
	}
	if len(l.Challenges) >= MaxChallenges {
		return nil
	}
	c := &Challenge{ID: n.NextChallenge(), Address: address, Request: request, Expires: now.Add(ChallengeLifetime)}
	l.Challenges[c.ID] = c
	return c
}

// Use ends a challenge with a login.
func (l *Logins) Use(c *Challenge, now time.Time) {
	c.Used = true
	c.Expires = now.Add(30 * time.Second)
	l.LastUse[c.Address] = now
}

// Active reports whether a login was used within a day, and counts this as a use.
func (l *Logins) Active(wallet string, now time.Time) bool {
	last, ok := l.LastUse[wallet]
	if !ok || now.After(last.Add(LoginLifetime)) {
		return false
	}
	l.LastUse[wallet] = now
	return true
}

// WithPrefix adds a missing 0x to an address.
func WithPrefix(address string) string {
	if strings.HasPrefix(address, "0x") {
		return address
	}
	return "0x" + address
}

// ChallengeAnswer is the answer to a login request.
type ChallengeAnswer struct {
	Challenge ChallengeID `json:"challenge_message"`
}

// ChallengeID is a UUID.
type ChallengeID [16]byte

func randomChallenge() ChallengeID {
	var id ChallengeID
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id ChallengeID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText writes the usual form of a UUID.
func (id ChallengeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads a UUID with or without dashes.
func (id *ChallengeID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "-", ""))
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
		return nil
	}
	if len(text) != 32 && len(text) != 36 {
		return fmt.Errorf("invalid UUID length: %d", len(text))
	}
	return errors.New("invalid UUID format")
}
