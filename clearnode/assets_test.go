package clearnode_test

import (
	"slices"
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestAssets: each generation of node tells which assets it lists.
func TestAssets(t *testing.T) {
	legacy, v1 := startLegacy(t, clearnodetest.LegacyBuild{}), startV1(t)
	for name, cfg := range map[string]clearnode.Config{
		"nitrorpc": config(startNode(t, clearnodetest.Config{}).URL()), "legacy": config(legacy.URL()), "v1": configV1(v1),
	} {
		t.Run(name, func(t *testing.T) {
			c := ready(t, cfg)
			for range 2 {
				assets, err := c.Assets(t.Context())
				if err != nil || !slices.Contains(assets, settlement.Asset("usdc")) {
					t.Errorf("%v, %v", assets, err)
				}
			}
		})
	}
}
