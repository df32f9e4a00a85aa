package clearnode_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// closedWithoutUs opens a session with nothing in it and closes it without us.
func closedWithoutUs(t testing.TB, n *clearnodetest.Node, protocol string, def clearnodetest.Definition) settlement.SessionID {
	t.Helper()
	id := open(t, n, def)
	err := error(nil)
	if protocol == clearnodetest.NitronodeV1 {
		err = n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: clearnodetest.IntentClose, Version: 2}, keyOf(keyJudge))
	} else {
		err = n.CloseElsewhere(string(id), nil)
	}
	must(t, err)
	return id
}

// list reads a whole list, and calls between after each page.
func list(t testing.TB, c *clearnode.Client, since time.Time, between func()) (found map[settlement.SessionID]time.Time, pages int) {
	t.Helper()
	found = map[settlement.SessionID]time.Time{}
	l := c.ClosedSessions(keyAddress(t), since)
	for more := true; more; pages++ {
		var rows []clearnode.ClosedSession
		var err error
		if rows, more, err = l.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			found[row.ID] = row.At
		}
		between()
	}
	return found, pages
}

func keyAddress(t testing.TB) settlement.Address {
	t.Helper()
	a, err := settlement.ParseAddress(judge)
	must(t, err)
	return a
}

// TestClosedSessions: all that are closed come, over several pages, also while others
// are being closed; whatever case their definitions spell us in; and what is open
// doesn't.
func TestClosedSessions(t *testing.T) {
	for _, protocol := range []string{clearnodetest.Nitro02, clearnodetest.Nitro04, clearnodetest.NitronodeV1} {
		t.Run(protocol, func(t *testing.T) {
			var clock atomic.Int64
			began := time.Now().Truncate(time.Second)
			n := startNode(t, clearnodetest.Config{Protocol: protocol, RateLimit: -1, Now: func() time.Time { return began.Add(time.Duration(clock.Load()) * time.Second) }})
			var all []settlement.SessionID
			for i := range 230 {
				clock.Add(1)
				def := gameDefinition()
				if protocol != clearnodetest.Nitro02 {
					def.Protocol = "NitroRPC/0.4"
				}
				if i%2 == 0 && protocol != clearnodetest.NitronodeV1 {
					def.Participants[2] = strings.ToLower(judge)
				}
				all = append(all, closedWithoutUs(t, n, protocol, def))
			}
			still := open(t, n, gameDefinition())
			cfg := configV1(n)
			cfg.Signers, cfg.ReadOnly = nil, true
			c := run(t, cfg)
			eventually(t, "a connection is up", func() bool { return c.Connected() > 0 })
			found, _ := list(t, c, time.Time{}, func() { clock.Add(1); closedWithoutUs(t, n, protocol, gameDefinition()) })
			wantListed(t, found, all, still)
			since := began.Add(200 * time.Second) // 31 were closed then, or later
			found, pages := list(t, c, since, func() {})
			if protocol == clearnodetest.NitronodeV1 {
				wantListed(t, found, all, still)
				return
			}
			if wantListed(t, found, all[199:], still); pages != 1 || len(found) > 31+10 {
				t.Errorf("%d sessions on %d pages", len(found), pages)
			}
			for id, at := range found {
				if at.Before(since) {
					t.Errorf("%s was closed at %s", id, at)
				}
			}
		})
	}
}

func wantListed(t *testing.T, found map[settlement.SessionID]time.Time, want []settlement.SessionID, not settlement.SessionID) {
	t.Helper()
	missing := 0
	for _, id := range want {
		if _, is := found[id]; !is {
			missing++
		}
	}
	if _, is := found[not]; is || missing > 0 {
		t.Errorf("%d of %d sessions are missing; the open one is listed: %v", missing, len(want), is)
	}
}

// TestClosedSessionsRepeated: a page that was not answered is asked for again.
func TestClosedSessionsRepeated(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	for range 120 {
		closedWithoutUs(t, n, clearnodetest.Nitro02, gameDefinition())
	}
	c := ready(t, config(n.URL()))
	l := c.ClosedSessions(keyAddress(t), time.Time{})
	found := map[settlement.SessionID]bool{}
	failed := 0
	for more := true; more; {
		if len(found) > 0 && failed == 0 {
			n.DropConnections()
		}
		rows, on, err := l.Next(t.Context())
		if err != nil && !errors.Is(err, clearnode.ErrNotSent) && !errors.Is(err, clearnode.ErrNoAnswer) {
			t.Fatal(err)
		}
		if err != nil {
			failed++
			continue
		}
		for _, row := range rows {
			found[row.ID] = true
		}
		more = on
	}
	if len(found) != 120 {
		t.Errorf("%d sessions, after %d failures", len(found), failed)
	}
}

// TestClosedSessionsOfLegacy: its lists have no pages, and it isn't asked.
func TestClosedSessionsOfLegacy(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{Protocol: clearnodetest.Legacy})
	if rows, more, err := c.ClosedSessions(keyAddress(t), time.Time{}).Next(t.Context()); !errors.Is(err, clearnode.ErrUnlisted) || more || rows != nil {
		t.Errorf("%v, %v, %v", rows, more, err)
	}
	if asked := n.Requests("get_app_sessions"); asked != 0 {
		t.Errorf("%d lists were asked for", asked)
	}
}
