package clearnode_test

import (
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestV1Ties: more transactions of one instant than a page holds. They come in
// another order every time, and some perhaps never. Who finds that rows are missing
// makes the others begin again as well: none of them may take it that the node
// doesn't show who funded a session, which would end its outcome.
func TestV1Ties(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	n := startNode(t, clearnodetest.Config{
		Protocol: clearnodetest.NitronodeV1, RateLimit: -1, LooseOrder: true, Now: func() time.Time { return now },
	})
	var ids []settlement.SessionID
	for range 250 {
		ids = append(ids, openGame(t, n))
	}
	for range 2 {
		lookAtAll(t, ready(t, configV1(n)), ids)
	}
}

// lookAtAll reads who funded the sessions, many at once. An error is what
// may be: they are looked at again later.
func lookAtAll(t *testing.T, c *clearnode.Client, ids []settlement.SessionID) {
	t.Helper()
	const workers = 32
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < len(ids); i += workers {
				s, err := c.Session(t.Context(), ids[i], settlement.ReadOptions{Funding: true})
				if err == nil && (s.Undisclosed.Funding || len(s.Deposits) != 2) {
					t.Errorf("%s: funding hidden: %v, deposits %v", ids[i], s.Undisclosed.Funding, s.Deposits)
				}
			}
		})
	}
	all.Wait()
}
