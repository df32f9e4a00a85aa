package clearnode_test

import (
	"slices"
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestConformAssets: each generation of node lists its assets.
func TestConformAssets(t *testing.T) {
	conform(t, nil, func(t *testing.T, _ generation, _ *clearnodetest.Node, c *clearnode.Client) {
		for range 2 {
			assets, err := c.Assets(t.Context())
			if err != nil || !slices.Contains(assets, settlement.Asset("usdc")) {
				t.Errorf("%v, %v", assets, err)
			}
		}
	})
}
