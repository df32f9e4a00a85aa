package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/settlement"
)

const (
	MaxAssetsAge   = time.Minute     // age of the node's list of assets when a request is sent
	assetsInterval = time.Second     // how often its age is checked
	assetsTimeout  = 5 * time.Second // for the answer
)

// LimitAssets periodically compares the limits with the assets that the node lists: a limit
// on an unlisted asset has no effect. It is safe for concurrent use.
type LimitAssets struct {
	limits     settlement.Limits
	assetsFunc func(context.Context) ([]settlement.Asset, error)
	NowFunc    func() time.Time
	log        zerolog.Logger

	asking sync.Mutex // serializes requests
	mu     sync.Mutex
	at     time.Time // time of the last list; zero: there was none
	found  error     // error by the last list
}

func NewLimitAssets(limits settlement.Limits, assets func(context.Context) ([]settlement.Asset, error), log zerolog.Logger) *LimitAssets {
	a := &LimitAssets{assetsFunc: assets, NowFunc: time.Now, log: log}
	for _, l := range limits {
		if l.Asset != "" {
			a.limits = append(a.limits, l)
		}
	}
	return a
}

// Verified returns nil if each limit names an asset that the node listed within a minute, or
// if the node lists none. After any error nothing may be sent.
func (a *LimitAssets) Verified(ctx context.Context) error {
	if a == nil || len(a.limits) == 0 {
		return nil
	}
	a.asking.Lock()
	defer a.asking.Unlock()
	if found, fresh := a.last(); fresh {
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, assetsTimeout)
	defer cancel()
	assets, err := a.assetsFunc(ctx)
	if err != nil {
		return err
	}
	return a.record(assets)
}

func (a *LimitAssets) last() (found error, fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.found, !a.at.IsZero() && a.NowFunc().Sub(a.at) < MaxAssetsAge
}

func (a *LimitAssets) record(assets []settlement.Asset) error {
	var found error
	if len(assets) > 0 {
		found = a.limits.Unlisted(assets)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if found != nil && (a.found == nil || a.found.Error() != found.Error()) {
		a.log.Error().Err(found).Msg("a limit matches no asset: nothing is sent")
	}
	if found == nil && a.found != nil {
		a.log.Info().Msg("each limit matches an asset of the node again")
	}
	a.at, a.found = a.NowFunc(), found
	return found
}

// Problem returns the error by the last list, or that there was none yet. It does not block.
func (a *LimitAssets) Problem() error {
	if a == nil || len(a.limits) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at.IsZero() {
		return errors.New("the limits are not compared with the node's assets yet")
	}
	return a.found
}

// Run compares until ctx ends.
func (a *LimitAssets) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.Verified(ctx); err != nil {
			a.log.Debug().Err(err).Msg("the limits could not be compared with the node's assets, or one matches none")
		}
		background.Sleep(ctx, assetsInterval)
	}
}
