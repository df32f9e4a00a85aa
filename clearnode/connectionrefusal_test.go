package clearnode_test

import (
	"context"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestConnectionRefusals: while the node refuses closes for what is true of the connection, nothing more is prepared, over however
// many connections; afterwards the client gets ready by itself.
func TestConnectionRefusals(t *testing.T) {
	for _, tc := range []struct{ protocol, text string }{
		{clearnodetest.Nitro04, "authentication required"},
		{clearnodetest.Nitro04, "session expired, please re-authenticate"},
		{clearnodetest.Nitro04, "invalid policy type in storage"},
		{clearnodetest.Nitro04, "invalid message timestamp"},
		{clearnodetest.Legacy, "Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57Z older than 60 s"},
		{clearnodetest.Legacy, "Session expired. Please re-authenticate."},
	} {
		t.Run(tc.protocol+", "+tc.text, func(t *testing.T) {
			n := startNode(t, clearnodetest.Config{Protocol: tc.protocol})
			cfg := config(n.URL())
			cfg.Connections = 4
			c := ready(t, cfg)
			id := openGame(t, n)
			r, s := prepared(t, c, id), readSession(t, c, id, settlement.ReadOptions{})
			n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Error, Times: -1, Text: tc.text})
			_, err := c.Send(t.Context(), r)
			wantRefused(t, err)
			wantNotReady(t, err)
			for range 2 {
				_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
				wantNotReady(t, err)
			}
			n.ClearFaults()
			_ = waitReady(t, c, true)
			closeGame(t, c, id)
			wantChecked(t, n)
		})
	}
}

// TestUnknownErrors: an error in no table is reported, and leaves the close in doubt.
func TestUnknownErrors(t *testing.T) {
	for _, generation := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.Legacy} {
		n := startNode(t, clearnodetest.Config{Protocol: generation})
		var reported []string
		cfg := config(n.URL())
		cfg.UnknownErrorFunc = func(method, text string) { reported = append(reported, method+" "+text) }
		c := ready(t, cfg)
		for _, text := range []string{"no such luck", "failed to close application session", "Failed to close application: the database's words"} {
			s := readSession(t, c, openGame(t, n), settlement.ReadOptions{})
			r, err := c.Prepare(context.Background(), settlement.Outcome{}, gamePlan(t, s), s)
			must(t, err)
			n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Error, Text: text})
			_, err = c.Send(t.Context(), r)
			wantInDoubt(t, err)
		}
		if len(reported) != 2 || reported[0] != "close_app_session no such luck" {
			t.Errorf("reported %q", reported)
		}
	}
}
