package clearnode

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"settled/settlement"
)

// Assets are the assets that the node lists now, in order; none where it lists none, as a
// legacy node does that knows no chain. An error means that they are not known.
func (c *Client) Assets(ctx context.Context) ([]settlement.Asset, error) {
	k, err := c.pool.lease(ctx, false, readWeight)
	if err != nil {
		return nil, fmt.Errorf("the node's assets: %w", err)
	}
	defer c.pool.giveBack(k, readWeight)
	assets, err := k.dialect.assets(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("the node's assets: %w", err)
	}
	return assets, nil
}

// Assets are Client.Assets, asked for after SignIn.
func (x *Diagnosis) Assets(ctx context.Context) ([]settlement.Asset, error) {
	return x.conn.dialect.assets(ctx, x.conn)
}

func (n *nitro) assets(ctx context.Context, c *conn) ([]settlement.Asset, error) {
	r := reading{n: n, conn: c}
	if err := c.questions(ctx, r.askAssets()); err != nil {
		return nil, err
	}
	return names(n.shelf.assets()), nil
}

func (v *v1) assets(ctx context.Context, c *conn) ([]settlement.Asset, error) {
	if err := c.questions(ctx, v.askAssets()); err != nil {
		return nil, err
	}
	return names(v.shelf.assets()), nil
}

func (l *legacy) assets(ctx context.Context, c *conn) ([]settlement.Asset, error) {
	var listed map[settlement.Asset]int32
	r := legacyReading{l: l, conn: c}
	if err := c.questions(ctx, r.askAssets(&listed)); err != nil {
		return nil, err
	}
	return names(listed), nil
}

func names(decimals map[settlement.Asset]int32) []settlement.Asset {
	return slices.Sorted(maps.Keys(decimals))
}
