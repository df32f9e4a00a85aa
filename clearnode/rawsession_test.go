package clearnode_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/settlement"
)

// rawLedger lets a raw node have one session of the game's participants.
type rawLedger struct {
	mu    sync.Mutex
	id    string
	rows  []any // newest first
	state string
	looks int
	then  func(*rawLedger) // after each transactions read
}

func deposit(id string, n int, amount any) map[string]any {
	return map[string]any{
		"id": n, "tx_type": "app_deposit", "from_account": playerA, "to_account": id, "asset": "usdc",
		"amount": amount, "created_at": time.Unix(int64(n), 0).UTC().Format(time.RFC3339Nano),
	}
}

func payout(id string, n int, amount string) map[string]any {
	r := deposit(id, n, amount)
	r["tx_type"], r["from_account"], r["to_account"] = "app_withdrawal", id, playerA
	return r
}

func theDefinition() map[string]any {
	return map[string]any{
		"application": "", "protocol": "NitroRPC/0.2", "participants": []any{playerA, playerB, judge},
		"weights": []any{0, 0, 100}, "quorum": 100, "challenge": 86400, "nonce": 1,
	}
}

// change changes what the node knows.
func (l *rawLedger) change(to func(*rawLedger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to(l)
}

func (l *rawLedger) serve(n *rawNode) {
	n.tell("get_app_definition", theDefinition())
	n.on("get_app_sessions", func(c *rawConn, r rawRequest) {
		l.mu.Lock()
		defer l.mu.Unlock()
		list := []any{}
		if r.params["status"] == l.state && r.params["offset"] == nil {
			list = append(list, map[string]any{"app_session_id": l.id, "status": l.state, "version": 4})
		}
		c.answer(r.id, r.method, map[string]any{"app_sessions": list})
	})
	n.on("get_ledger_transactions", func(c *rawConn, r rawRequest) {
		l.mu.Lock()
		defer l.mu.Unlock()
		from := 0
		if offset, given := r.params["offset"].(float64); given {
			from = int(offset)
		}
		page := l.rows[min(from, len(l.rows)):min(from+100, len(l.rows))]
		c.answer(r.id, r.method, map[string]any{"ledger_transactions": append([]any{}, page...)})
		l.looks++
		if l.then != nil {
			l.then(l)
		}
	})
}

func rawSession(t *testing.T) (*rawLedger, *rawNode, func(settlement.ReadOptions) (settlement.Session, error)) {
	n := startRaw(t)
	_, s := handmade(t)
	l := &rawLedger{id: string(s.ID), state: "open"}
	l.serve(n)
	c := one(t, n.url)
	return l, n, func(k settlement.ReadOptions) (settlement.Session, error) { return c.Session(t.Context(), s.ID, k) }
}

func TestSessionOverpaid(t *testing.T) {
	l, _, read := rawSession(t)
	l.change(func(l *rawLedger) {
		l.rows, l.state = []any{payout(l.id, 3, "5"), payout(l.id, 2, "5"), deposit(l.id, 1, "5")}, "closed"
	})
	s, err := read(settlement.ReadOptions{InDoubt: true})
	if _, in, out, found := s.Overpaid(); err != nil || s.Open || !found || in.String() != "5" || out.String() != "10" {
		t.Errorf("session %+v, %v", s, err)
	}
}

// TestSessionChanges: what a second read finds changed is not answered as if it
// had been seen twice.
func TestSessionChanges(t *testing.T) {
	t.Run("funded after all", func(t *testing.T) {
		l, _, read := rawSession(t)
		l.change(func(l *rawLedger) {
			l.then = func(l *rawLedger) { l.rows = []any{deposit(l.id, 1, "5")} }
		})
		if s, err := read(settlement.ReadOptions{}); err != nil || !s.Open || s.Unfunded() {
			t.Errorf("session %+v, %v", s, err)
		}
	})
	t.Run("emptied between two looks", func(t *testing.T) {
		l, _, read := rawSession(t)
		l.change(func(l *rawLedger) {
			l.rows = []any{deposit(l.id, 1, "5")}
			l.then = func(l *rawLedger) { l.rows = []any{payout(l.id, 2, "5"), deposit(l.id, 1, "5")} }
		})
		_, err := read(settlement.ReadOptions{InDoubt: true})
		wantReadFailed(t, err)
	})
	t.Run("closed between two looks", func(t *testing.T) {
		l, _, read := rawSession(t)
		l.change(func(l *rawLedger) {
			l.rows = []any{deposit(l.id, 1, "5")}
			l.then = func(l *rawLedger) {
				l.rows, l.state = []any{payout(l.id, 2, "5"), deposit(l.id, 1, "5")}, "closed"
			}
		})
		if s, err := read(settlement.ReadOptions{InDoubt: true}); err != nil || s.Open || s.ConfirmedStable || len(s.Payouts) != 1 {
			t.Errorf("session %+v, %v", s, err)
		}
	})
	t.Run("there after all", func(t *testing.T) {
		l, n, read := rawSession(t)
		l.change(func(l *rawLedger) { l.state = "" })
		n.on("get_app_definition", func(c *rawConn, r rawRequest) {
			n.tell("get_app_definition", theDefinition())
			c.fail(r.id, "failed to get application session")
		})
		if s, err := read(settlement.ReadOptions{}); err == nil || errors.Is(err, settlement.ErrSessionNotFound) {
			t.Errorf("session %+v, %v", s, err)
		}
	})
}

// TestSessionNotFoundNeedsTheLedger: the definition's error alone proves nothing.
func TestSessionNotFoundNeedsTheLedger(t *testing.T) {
	for it, spoil := range map[string]func(*rawLedger, *rawNode){
		"the ledger fails at first": func(_ *rawLedger, n *rawNode) {
			n.on("get_ledger_transactions", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get transactions") })
		},
		"the ledger fails later": func(l *rawLedger, n *rawNode) {
			l.then = func(*rawLedger) {
				n.on("get_ledger_transactions", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get transactions") })
			}
		},
		"the ledger has rows": func(l *rawLedger, _ *rawNode) { l.rows = []any{deposit(l.id, 1, "5")} },
		"the ledger has rows at last": func(l *rawLedger, _ *rawNode) {
			l.then = func(l *rawLedger) {
				if l.looks == 2 {
					l.rows = []any{deposit(l.id, 1, "5")}
				}
			}
		},
		"the sessions fail": func(_ *rawLedger, n *rawNode) {
			n.on("get_app_sessions", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get application sessions") })
		},
		"the session is listed": func(l *rawLedger, _ *rawNode) { l.state = "open" },
		"another error": func(_ *rawLedger, n *rawNode) {
			n.on("get_app_definition", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get application session.") })
		},
	} {
		t.Run(it, func(t *testing.T) {
			l, n, read := rawSession(t)
			n.on("get_app_definition", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get application session") })
			l.change(func(l *rawLedger) {
				l.state = ""
				spoil(l, n)
			})
			_, err := read(settlement.ReadOptions{})
			wantReadFailed(t, err)
		})
	}
}

// wantReadFailed wants to hear that the node answered, and nothing more.
func wantReadFailed(t testing.TB, err error) {
	t.Helper()
	var w *settlement.Waiting
	var f *settlement.Failure
	if !errors.As(err, &w) || w.Reason != settlement.ReadFailed || w.Err == nil || errors.As(err, &f) || errors.Is(err, settlement.ErrSessionNotFound) {
		t.Errorf("got %v, want read_failed", err)
	}
}

// TestSessionNeverReadable: a definition never changes, so waiting helps nobody.
func TestSessionNeverReadable(t *testing.T) {
	for _, tc := range []struct {
		it, member string
		value      any
		code       settlement.Code
		says       string
	}{
		{"a participant that is no address", "participants", []any{playerA, "foo", judge}, settlement.AllocationRejected, `"foo"`},
		{"an empty participant", "participants", []any{playerA, "", judge}, settlement.AllocationRejected, "participant 2"},
		{"the next protocol", "protocol", "NitroRPC/0.3", settlement.NodeRejected, "NitroRPC/0.3"},
		{"a protocol in lower case", "protocol", "nitrorpc/0.2", settlement.NodeRejected, "nitrorpc/0.2"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			_, n, read := rawSession(t)
			d := theDefinition()
			d[tc.member] = tc.value
			n.tell("get_app_definition", d)
			var f *settlement.Failure
			if _, err := read(settlement.ReadOptions{}); !errors.As(err, &f) || f.Code != tc.code || f.Class != settlement.Rejected || !strings.Contains(f.Message, tc.says) {
				t.Errorf("got %v, want %s", err, tc.code)
			}
			n.on("get_app_definition", func(c *rawConn, r rawRequest) {
				c.send(sealed(keyOf(7), r.id, r.method, d, time.Now()))
			})
			f = nil
			if _, err := read(settlement.ReadOptions{}); err == nil || errors.As(err, &f) {
				t.Errorf("by somebody else: %v", err)
			}
		})
	}
}

// TestSessionWithoutNode: no connection, no answer and no time are not the
// session's fault.
func TestSessionWithoutNode(t *testing.T) {
	wantAway := func(err, is error) {
		t.Helper()
		var w *settlement.Waiting
		if !errors.Is(err, is) || errors.As(err, &w) {
			t.Errorf("got %v, want %v", err, is)
		}
	}
	l, n, read := rawSession(t)
	l.change(func(l *rawLedger) { l.rows = []any{deposit(l.id, 1, "5")} })
	n.on("get_ledger_transactions", func(c *rawConn, _ rawRequest) { _ = c.ws.Close() })
	// What is asked for behind it may not even have left.
	if _, err := read(settlement.ReadOptions{}); !errors.Is(err, clearnode.ErrNotSent) {
		wantAway(err, clearnode.ErrNoAnswer)
	}

	c := ready(t, config(startRaw(t).url).SecondLook(time.Hour))
	_, s := handmade(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Session(ctx, s.ID, settlement.ReadOptions{})
	wantAway(err, context.DeadlineExceeded)
}

// TestSessionUnreadable: nothing is guessed.
func TestSessionUnreadable(t *testing.T) {
	row := func(change func(map[string]any)) func(*rawLedger, *rawNode) {
		return func(l *rawLedger, _ *rawNode) {
			r := deposit(l.id, 1, "5")
			change(r)
			l.rows = []any{r}
		}
	}
	definition := func(change func(map[string]any)) func(*rawLedger, *rawNode) {
		return func(_ *rawLedger, n *rawNode) {
			d := theDefinition()
			change(d)
			n.tell("get_app_definition", d)
		}
	}
	set := func(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }
	for it, spoil := range map[string]func(*rawLedger, *rawNode){
		"an amount that is a number": row(set("amount", 5)),
		"a negative amount":          row(set("amount", "-5")),
		"an exponent":                row(set("amount", "5e1")),
		"an empty amount":            row(set("amount", "")),
		"another session's money":    row(set("to_account", "0x"+strings.Repeat("cd", 32))),
		"a wallet that is none":      row(set("from_account", "nobody")),
		"an unknown type":            row(set("tx_type", "transfer")),
		"a time that is none":        row(set("created_at", "yesterday")),
		"an asset with a space":      row(set("asset", "us dc")),
		"an asset that isn't listed": row(set("asset", "doge")),
		"fewer weights":              definition(set("weights", []any{0, 100})),
		"no protocol":                definition(set("protocol", "")),
		"no transactions at all":     func(_ *rawLedger, n *rawNode) { n.tell("get_ledger_transactions", map[string]any{}) },
		"no sessions at all":         func(_ *rawLedger, n *rawNode) { n.tell("get_app_sessions", map[string]any{}) },
		"transactions under other name": func(_ *rawLedger, n *rawNode) {
			n.on("get_ledger_transactions", func(c *rawConn, r rawRequest) { c.answer(r.id, "pong", nil) })
		},
		"an unknown status": func(l *rawLedger, n *rawNode) {
			n.tell("get_app_sessions", map[string]any{"app_sessions": []any{map[string]any{"app_session_id": l.id, "status": "frozen", "version": 1}}})
		},
	} {
		t.Run(it, func(t *testing.T) {
			l, n, read := rawSession(t)
			l.change(func(l *rawLedger) { spoil(l, n) })
			_, err := read(settlement.ReadOptions{})
			wantReadFailed(t, err)
		})
	}
}

// TestSessionMovesWhilePaged: a row that comes while the ledger is paged through
// moves the pages; the read starts again, and no row is missed or twice.
func TestSessionMovesWhilePaged(t *testing.T) {
	l, _, read := rawSession(t)
	l.change(func(l *rawLedger) {
		for n := 250; n > 0; n-- {
			l.rows = append(l.rows, deposit(l.id, n, "1"))
		}
		l.then = func(l *rawLedger) {
			if l.looks == 1 {
				l.rows = append([]any{deposit(l.id, 251, "1")}, l.rows...)
			}
		}
	})
	s, err := read(settlement.ReadOptions{})
	if err != nil || len(s.Deposits) != 251 || s.Balance()[0].Amount.String() != "251" || s.Deposits[0].At.Unix() != 1 || s.Deposits[250].At.Unix() != 251 {
		t.Errorf("%d deposits, %v", len(s.Deposits), err)
	}
	l.change(func(l *rawLedger) {
		l.then = func(l *rawLedger) { l.rows = append([]any{deposit(l.id, 1000+l.looks, "1")}, l.rows...) }
	})
	if _, err := read(settlement.ReadOptions{}); err == nil {
		t.Error("a ledger that always moves was read")
	}
}

// TestNewAsset: an asset that isn't known yet is asked for again.
func TestNewAsset(t *testing.T) {
	l, n, read := rawSession(t)
	l.change(func(l *rawLedger) { l.rows = []any{deposit(l.id, 1, "5")} })
	if _, err := read(settlement.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	row := deposit(l.id, 2, "7")
	row["asset"] = "doge"
	l.change(func(l *rawLedger) { l.rows = append([]any{row}, l.rows...) })
	n.tell("get_assets", map[string]any{"assets": []any{
		map[string]any{"symbol": "usdc", "decimals": 18, "chain_id": 1}, map[string]any{"symbol": "usdc", "decimals": 6, "chain_id": 2},
		map[string]any{"symbol": "doge", "decimals": 8, "chain_id": 1}, map[string]any{"symbol": "odd one", "decimals": 8},
	}})
	s, err := read(settlement.ReadOptions{})
	if err != nil || s.Decimals["doge"] != 8 || s.Decimals["usdc"] != 6 || len(s.Decimals) != 2 {
		t.Errorf("decimals %v, %v", s.Decimals, err)
	}
}

// TestAsOf: the instant is from before the first frame left, also where two looks
// were needed.
func TestAsOf(t *testing.T) {
	l, n, read := rawSession(t)
	l.change(func(l *rawLedger) { l.rows = []any{deposit(l.id, 1, "5")} })
	var came time.Time
	n.on("get_app_sessions", func(c *rawConn, r rawRequest) {
		l.change(func(*rawLedger) {
			if came.IsZero() {
				came = time.Now()
			}
		})
		c.answer(r.id, r.method, map[string]any{"app_sessions": []any{map[string]any{"app_session_id": l.id, "status": "open", "version": 4}}})
	})
	s, err := read(settlement.ReadOptions{InDoubt: true})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || s.AsOf.After(came) || s.AsOf.Before(came.Add(-patience)) {
		t.Errorf("as of %s, asked at %s, %v", s.AsOf, came, err)
	}
}

// TestSessionMadeMeanwhile: a session that is in no list and has no rows may have
// been made between the two reads. It isn't called closed at first sight.
func TestSessionMadeMeanwhile(t *testing.T) {
	l, _, read := rawSession(t)
	l.change(func(l *rawLedger) {
		l.state = ""
		l.then = func(l *rawLedger) { l.rows, l.state = []any{deposit(l.id, 1, "5")}, "open" }
	})
	if s, err := read(settlement.ReadOptions{}); err != nil || !s.Open || s.Unfunded() {
		t.Errorf("session %+v, %v", s, err)
	}
}

// TestNoParticipants: a definition that names none can never be
// read; one that does not say is an answer that makes no sense.
func TestNoParticipants(t *testing.T) {
	l, n, read := rawSession(t)
	l.change(func(*rawLedger) {
		n.tell("get_app_definition", map[string]any{"protocol": "NitroRPC/0.2", "participants": []any{}, "weights": []any{}, "quorum": 100})
	})
	_, err := read(settlement.ReadOptions{})
	var never *settlement.Failure
	if !errors.As(err, &never) || never.Code != settlement.NotAParticipant {
		t.Errorf("%v, want %s", err, settlement.NotAParticipant)
	}
}
