package clearnode_test

import (
	"context"
	"errors"
	"testing"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestConnectionRefusals: while the node refuses closes for what is true of the
// connection, nothing more is prepared, over however many connections; afterwards the
// client gets ready by itself.
func TestConnectionRefusals(t *testing.T) {
	for name, text := range map[string]string{
		"signed out":  "authentication required",
		"expired":     "session expired, please re-authenticate",
		"policy gone": "invalid policy type in storage",
		"out of time": "invalid message timestamp",
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, clearnodetest.Config{})
			cfg := config(n.URL())
			cfg.Connections = 4
			c := ready(t, cfg)
			wantOnlyRefused(t, n, c, text)
			closeDuel(t, c, openDuel(t, n))
			wantChecked(t, n)
		})
	}
}

// TestLegacyConnectionRefusals: the same at a legacy node.
func TestLegacyConnectionRefusals(t *testing.T) {
	n := startNode(t, clearnodetest.Config{Protocol: clearnodetest.Legacy})
	cfg := config(n.URL())
	cfg.Connections = 2
	c := ready(t, cfg)
	wantOnlyRefused(t, n, c, "Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57Z older than 60 s")
	wantOnlyRefused(t, n, c, "Session expired. Please re-authenticate.")
}

// wantOnlyRefused has the node refuse every close with a text, for a while.
func wantOnlyRefused(t *testing.T, n *clearnodetest.Node, c *clearnode.Client, text string) {
	t.Helper()
	id := openDuel(t, n)
	s := look(t, c, id, settlement.ReadOptions{})
	r, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
	if err != nil {
		t.Fatal(err)
	}
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Error, Times: -1, Text: text})
	_, err = c.Send(t.Context(), r)
	wantStillWaiting(t, err)
	var refused *settlement.Refused
	if !errors.As(err, &refused) {
		t.Errorf("%q is no refusal: %v", text, err)
	}
	for range 2 {
		_, err := c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
		wantStillWaiting(t, err)
	}
	n.ClearFaults()
	_ = waitReady(t, c, true)
	r, err = c.Prepare(t.Context(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func wantStillWaiting(t *testing.T, err error) {
	t.Helper()
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.NotReady {
		t.Errorf("%v, want waiting (%s)", err, settlement.NotReady)
	}
}

// TestUnknownErrors: an error in no table is told, and is in doubt.
func TestUnknownErrors(t *testing.T) {
	for _, generation := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.Legacy} {
		n := startNode(t, clearnodetest.Config{Protocol: generation})
		var told []string
		cfg := config(n.URL())
		cfg.UnknownErrorFunc = func(method, text string) { told = append(told, method+" "+text) }
		c := ready(t, cfg)
		for _, text := range []string{"no such luck", "failed to close application session", "Failed to close application: the database's words"} {
			s := look(t, c, openDuel(t, n), settlement.ReadOptions{})
			r, err := c.Prepare(context.Background(), settlement.Outcome{}, planFor(t, s, "7", "8"), s)
			if err != nil {
				t.Fatal(err)
			}
			n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Error, Text: text})
			_, err = c.Send(t.Context(), r)
			wantInDoubt(t, err)
		}
		if len(told) != 2 || told[0] != "close_app_session no such luck" {
			t.Errorf("told %q", told)
		}
	}
}
