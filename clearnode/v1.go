package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// v1 is nitronode 1, as version 1.4.1 speaks it (recorded: testdata/v1; what was
// read in its source is marked so).
//
// It has no sign-in and signs no answer: whoever answers at the node's address is
// believed, so that address wants TLS. Nothing it is sent expires; each session
// has a version, and of all updates to one version it carries out one.
type v1 struct {
	client *Client
	shelf  shelf // of the assets alone
	book   v1Book
}

func newV1(c *Client) *v1 { return &v1{client: c} }

// Methods.
const (
	v1Ping         = "node.v1.ping"
	v1Config       = "node.v1.get_config"
	v1Assets       = "node.v1.get_assets"
	v1Sessions     = "app_sessions.v1.get_app_sessions"
	v1Submit       = "app_sessions.v1.submit_app_state"
	v1Transactions = "user.v1.get_transactions"
)

func (v *v1) classify(text string) classified { return v1Refusals.find(text) }

// budget is what a node lets one connection send before it resets it: 10
// frames a second and 20 at once (recorded); 256 KiB a second and 1 MiB at once
// (source). The bursts are halved: what a network delays arrives in a heap.
func (v *v1) budget() budget {
	return budget{frames: 10, burst: 10, bytes: 256 << 10, byteBurst: 512 << 10}
}

func (v *v1) ping(ctx context.Context, c *conn) error {
	var nothing any
	return c.ask(ctx, v1Ping, struct{}{}, v1Ping, &nothing)
}

// signIn learns whose node it is, and what it lists. There is nobody to sign in.
func (v *v1) signIn(ctx context.Context, c *conn) error {
	var address settlement.Address
	err := c.questions(ctx,
		question{v1Config, struct{}{}, func(a answer) (err error) {
			address, err = readNodeAddress(a)
			return err
		}},
		v.askAssets())
	if err != nil {
		return err
	}
	return v.client.hold(address)
}

// probe has nothing to find out: no request expires.
func (v *v1) probe(context.Context, *conn) error { return nil }

// takesCloses has nothing to find out: there is no sign-in that could be lost.
func (v *v1) takesCloses(context.Context, *conn) error { return nil }

func readNodeAddress(a answer) (settlement.Address, error) {
	var p struct {
		Address string `json:"node_address"`
	}
	if err := a.into(v1Config, &p); err != nil {
		return settlement.Address{}, err
	}
	return settlement.ParseAddress(p.Address)
}

func (v *v1) askAssets() question {
	return question{v1Assets, struct{}{}, func(a answer) error {
		decimals, err := readV1Assets(a)
		if err == nil {
			v.shelf.keepAssets(decimals)
		}
		return err
	}}
}

// readV1Assets reads get_assets: each asset has decimals of its own, that none of
// its tokens falls short of (source). The node holds amounts to them, and keeps its
// transactions with no more than its books have.
func readV1Assets(a answer) (map[settlement.Asset]int32, error) {
	var p struct {
		Assets []struct {
			Symbol   string `json:"symbol"`
			Decimals *int32 `json:"decimals"`
		} `json:"assets"`
	}
	if err := a.into(v1Assets, &p); err != nil {
		return nil, err
	}
	if p.Assets == nil {
		return nil, errors.New("no assets in the answer")
	}
	decimals := map[settlement.Asset]int32{}
	for _, listed := range p.Assets {
		asset, err := settlement.ParseAsset(listed.Symbol)
		if err != nil {
			continue // no session that holds it can be read either
		}
		if listed.Decimals == nil || *listed.Decimals < 0 || *listed.Decimals > maxDecimals {
			return nil, fmt.Errorf("asset %s: no decimals, or none that can be", quote(listed.Symbol))
		}
		decimals[asset] = min(*listed.Decimals, bookDecimals)
	}
	return decimals, nil
}

var _ dialect = (*v1)(nil)

// The envelope's time is looked at by nobody (recorded: a request of 1970 is
// answered).
func (v *v1) question(method string, params any, at time.Time) (request, error) {
	id := nextID()
	frame, err := v1Request(id, method, params, millis(at))
	return request{id: id, method: method, frame: frame}, err
}
