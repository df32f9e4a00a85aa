package clearnode

import (
	"context"
	"time"

	"settled/settlement"
)

// SignInAs signs anybody in on a connection of the client's, under a session key
// of anybody's.
func (c *Client) SignInAs(ctx context.Context, s Signer, sessionKey settlement.Address, application string, expires time.Time) error {
	k, err := c.pool.lease(ctx, true, 1)
	if err != nil {
		return err
	}
	defer c.pool.giveBack(k, 1)
	n := newNitro(c)
	_, err = n.signInAs(ctx, k, s, policy{application: application, sessionKey: sessionKey, expiresAt: seconds(expires)})
	return err
}

// RenewalDue reports whether it is time for another token.
func (c *Client) RenewalDue() bool { return c.login.fresh() == "" }
