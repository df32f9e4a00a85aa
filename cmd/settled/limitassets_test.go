package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/host"
	"settled/settlement"
)

func limitsOn(t *testing.T, assets ...string) settlement.Limits {
	t.Helper()
	var limits settlement.Limits
	for _, asset := range assets {
		l, err := settlement.ParseLimit(asset, "", "session", "1000")
		must(t, err)
		limits = append(limits, l)
	}
	return limits
}

// TestLimitThatMatchesNothing: with a limit on an asset that the node doesn't list nothing
// is sent, readiness and doctor name the limit, and settled goes on once it is corrected.
func TestLimitThatMatchesNothing(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.production()
	session := d.open()
	for i, asset := range []string{"USDC", "eurc"} {
		d.cfg.Limits = limitsOn(t, asset)
		s, stop := d.begin()
		d.until("readiness names the limit", func() bool { err := s.Ready(); return err != nil && strings.Contains(err.Error(), asset) })
		if i == 0 {
			d.publish("partial_service", "a", session, d.partial())
		}
		d.until("fetching is paused", func() bool {
			intake := s.Status().Intake
			return intake.Paused && strings.Contains(intake.PausedWhy, asset)
		})
		if found := d.entries(session); len(found) > 0 {
			t.Errorf("under a limit on %s: %+v", asset, found)
		}
		if n := len(d.node.Closes(string(session))); n != 0 {
			t.Errorf("%d closes were sent under a limit on %s", n, asset)
		}
		_, found := d.doctor()
		wantFinding(t, found, doctor.Finding{Check: "node.limits", Result: doctor.Fail, Found: asset})
		stop()
	}
	d.cfg.Limits = limitsOn(t, "usdc")
	d.serve()
	d.wantClosed(session, 1)
	_, found := d.doctor()
	wantFinding(t, found, doctor.Finding{Check: "node.limits", Result: doctor.OK})
}

// TestLimitAssets: the comparison is made again once it is a minute old; what isn't known
// holds sending, and so does what is known to be wrong.
func TestLimitAssets(t *testing.T) {
	var assets []settlement.Asset
	var away error
	asked, now := 0, time.Unix(1e9, 0)
	a := host.NewLimitAssets(limitsOn(t, "", "usdc"), func(context.Context) ([]settlement.Asset, error) { asked++; return assets, away }, zerolog.Nop())
	a.NowFunc = func() time.Time { return now }
	for _, step := range []struct {
		assets []settlement.Asset
		away   error
		later  time.Duration
		want   string // in the error; empty: none
		asked  int
	}{
		{nil, errors.New("the node is away"), 0, "away", 1},
		{[]settlement.Asset{"usdc", "weth"}, nil, 0, "", 2},
		{[]settlement.Asset{"USDC"}, nil, time.Second, "", 2},
		{[]settlement.Asset{"USDC"}, nil, host.MaxAssetsAge, `"USDC"`, 3},
		{[]settlement.Asset{"usdc"}, nil, time.Second, `"USDC"`, 3},
		{nil, errors.New("the node is away"), host.MaxAssetsAge, "away", 4},
		{[]settlement.Asset{"usdc"}, nil, 0, "", 5},
		{nil, nil, host.MaxAssetsAge, "", 6}, // a node that lists none
	} {
		assets, away, now = step.assets, step.away, now.Add(step.later)
		err := a.Verified(t.Context())
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) || asked != step.asked {
			t.Errorf("%+v: %v, asked %d times", step, err, asked)
		}
	}
	if err := (*host.LimitAssets)(nil).Verified(t.Context()); err != nil {
		t.Error(err)
	}
}
