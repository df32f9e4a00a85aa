package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strings"
)

// check is one case: a world, and what exploring it must find.
type check struct {
	Name  string
	World string // in words, for the table
	Off   string // a rule that is off; "" none
	Want  string // the invariant that is then violated; "" none
	Ends  bool   // from every state a way without faults ends every message
	config
}

// base is a world at a node whose requests expire, with two replicas, one outcome that
// is published twice, and processes that may die at any step.
func base() config {
	return config{Duplicate: true, Attempts: 1, Faults: faults{Crash: endless}}
}

func versioned() config {
	c := base()
	c.Versioned = true
	return c
}

func two(c config) config { c.Duplicate, c.OutcomeB = false, true; return c }

func set(c config, f func(*config)) config { f(&c); return c }

func foreign(c config, says ...uint8) config {
	if c.Foreign = says; says == nil {
		c.Foreign = []uint8{garbage, forgedFree, forgedClosed}
	}
	return c
}

func cases() []check {
	all := []check{
		{Name: "loop", World: "one outcome published twice", Ends: true, config: base()},
		{Name: "loop/two-outcomes", World: "two outcomes of one session", Ends: true, config: two(base())},
		{Name: "loop/v1", World: "one outcome published twice", Ends: true, config: versioned()},
		{Name: "loop/v1-two-outcomes", World: "two outcomes of one session", Ends: true, config: two(versioned())},
		{Name: "foreign", World: "foreign messages at any time", Ends: true, config: foreign(base())},
		{Name: "foreign/v1", World: "foreign messages at any time", Ends: true, config: foreign(versioned())},
		{Name: "foreign/two-outcomes", World: "foreign messages at any time, two outcomes", Ends: true, config: foreign(two(base()))},
		{Name: "foreign/v1-two-outcomes", World: "foreign messages at any time, two outcomes", Ends: true, config: foreign(two(versioned()))},

		{Name: "troubles", World: "a stuck node, a rival, errors while it works on", config: stuckNode(set(base(), func(c *config) { c.WorksOn = true }))},
		{Name: "troubles/balance", World: "the balance moves, a rival, reads that fail, two attempts", config: set(base(), func(c *config) {
			c.Attempts, c.Faults.Deposit, c.Faults.Rival, c.NotFound, c.OtherNode = 2, 1, 1, true, true
		})},
		{Name: "troubles/replays", World: "two attempts, two replays", config: set(base(), func(c *config) { c.Attempts, c.Faults.Replay, c.Duplicate = 2, 2, false })},
		{Name: "troubles/v1", World: "lagging reads, rivals that update and close, a deposit", config: set(versioned(), func(c *config) {
			c.Lag, c.Faults.Operate, c.Faults.Rival, c.Faults.Deposit, c.NotFound, c.OtherNode = true, 2, 1, 1, true, true
		})},
		{Name: "troubles/withdrawals", World: "later payouts look like an earlier plan's", config: withdrawn(base())},
		{Name: "troubles/unseen", World: "the node does not show payouts", config: set(base(), func(c *config) { c.Unseen, c.Attempts = true, 2 })},

		{Name: "restored/small", World: "the ledger is restored from an older copy, running or stopped, one message, no crash", Ends: true, config: few(setBack(base()))},
		{Name: "restored", World: "the ledger is restored from an older copy, running or stopped", Ends: true, config: setBack(base())},
		{Name: "restored/two-outcomes", World: "the ledger is restored from an older copy, two outcomes, no other crash", config: set(setBack(two(base())), func(c *config) { c.Faults.Crash, c.Money = 0, true })},
		{Name: "restored/v1", World: "the ledger is restored from an older copy, no hold", Ends: true, config: setBack(versioned())},
		{Name: "restored/v1-two-outcomes", World: "the ledger is restored from an older copy, no hold, two outcomes", config: set(setBack(two(versioned())), func(c *config) { c.Money = true })},
		{Name: "restored/not-found", World: "the ledger is restored from an older copy, reads that look like not found", config: set(few(setBack(base())), func(c *config) { c.NotFound, c.Money = true, true })},
		{Name: "clocks", World: "the wall clock of settled's hosts jumps", Ends: true, config: jumps(base())},
		{Name: "clocks/restored", World: "the wall clock jumps, and the ledger is restored from an older copy", config: setBack(jumps(base()))},
		{Name: "renumbered/small", World: "OUTCOMES is restored from an older copy and renumbered", Ends: true, config: few(renumbered(base()))},
		{Name: "renumbered", World: "OUTCOMES is restored from an older copy and renumbered, clocks jump, a replay", config: renumbered(base())},
		{Name: "renumbered/v1", World: "OUTCOMES is restored from an older copy and renumbered, a replay", Ends: true, config: renumbered(versioned())},
		{Name: "copies/small", World: "signed outcomes, a copy", Ends: true, config: few(copies(base()))},
		{Name: "copies", World: "signed outcomes, copies of them, a replay", config: copies(base())},
		{Name: "copies/v1", World: "signed outcomes, copies of them, a replay", Ends: true, config: copies(versioned())},

		{Name: "retention", World: "a new epoch drops the entries of closed sessions", Ends: true, config: newEpoch(base())},
		{Name: "retention/two-outcomes", World: "a new epoch, two outcomes", Ends: true, config: newEpoch(two(base()))},
		{Name: "retention/v1", World: "a new epoch drops the entries of closed sessions", Ends: true, config: newEpoch(versioned())},
		{Name: "retention/replays", World: "a new epoch, two attempts, a replay", config: newEpoch(set(base(), func(c *config) { c.Attempts, c.Faults.Replay, c.Duplicate = 2, 1, false }))},
	}
	return append(all, broken()...)
}

func setBack(c config) config { c.Faults.SetBack = 1; return c }

func jumps(c config) config { c.Faults.Jump = 2; return c }

func newEpoch(c config) config { c.Faults.NewEpoch = 1; return c }

func renumbered(c config) config {
	c.Faults.Renumber, c.Faults.Replay, c.Faults.Jump = 1, 1, 1
	c.Duplicate = false
	return c
}

// few is a smaller world.
func few(c config) config {
	c.Faults.Crash, c.Duplicate, c.OutcomeB, c.Faults.Jump, c.Faults.Replay = 0, false, false, 0, 0
	return c
}

func copies(c config) config {
	c.Trust, c.Duplicate, c.Faults.Copy, c.Faults.Replay = true, false, 1, 1
	return c
}

// broken are the cases with one rule off: each must be found.
func broken() []check {
	off := func(rule, want string, c config, name ...string) check {
		return check{Name: "off/" + cmp.Or(strings.Join(name, ""), rule), Off: rule, Want: want, Ends: want == "NO-END", config: c}
	}
	return []check{
		off("standing", "FAILED-IN-DOUBT", two(base())),
		off("intent-per-send", "TWO-IN-FLIGHT", set(base(), func(c *config) { c.Attempts = 2 })),
		off("fence-before-read", "FAILED-THOUGH-PAID", base()),
		off("fail-after-fence", "FAILED-IN-DOUBT", base()),
		off("fail-after-fence", "FAILED-IN-DOUBT", versioned(), "fail-on-path"),
		off("newest-first", "CLOSED-DISAGREES", withdrawn(base())),
		off("not-found-waits", "FAILED-IN-DOUBT", set(base(), func(c *config) { c.NotFound = true })),
		off("failed-frees", "CONFLICT-WITH-NOBODY", two(base())),
		off("history", "TWO-ENDS", two(base())),
		off("base-pinned", "FAILED-IN-DOUBT", set(versioned(), func(c *config) { c.Faults.Operate = 2 })),
		off("quiet", "FAILED-IN-DOUBT", stuckNode(base())),
		off("head-again", "WRONG-LETTER", set(base(), func(c *config) { c.Unseen = true })),
		off("behind-base", "FAILED-IN-DOUBT", set(versioned(), func(c *config) { c.Lag, c.Faults.Operate = true, 1 })),
		off("other-generation", "FAILED-IN-DOUBT", set(base(), func(c *config) { c.OtherNode = true })),
		off("own-refusal", "TWO-IN-FLIGHT", set(base(), func(c *config) { c.Attempts = 3 })),
		off("errors-in-doubt", "FAILED-IN-DOUBT", set(base(), func(c *config) { c.WorksOn = true })),

		off("foreign-skipped", "TWO-IN-FLIGHT", foreign(base(), forgedFree), "foreign-skipped-free"),
		off("foreign-skipped", "LOST", foreign(base(), forgedClosed), "foreign-skipped-closed"),
		off("foreign-skipped", "NO-END", foreign(base(), garbage), "foreign-skipped-garbage"),
		off("expect-last-message", "NO-END", foreign(base(), garbage)),
		off("first-expects-none", "TWO-IN-FLIGHT", base()),
		off("retry-on-same-head", "TWO-IN-FLIGHT", foreign(base())),

		off("hold", "TWO-IN-FLIGHT", setBack(base())),
		off("all-hold", "TWO-IN-FLIGHT", setBack(base())),
		off("hold-no-failure", "FAILED-IN-DOUBT", set(few(setBack(base())), func(c *config) { c.NotFound, c.Money = true, true })),
		off("after-restore", "TWO-IN-FLIGHT", setBack(base())),
		off("node-clock", "TWO-IN-FLIGHT", jumps(set(base(), func(c *config) { c.Attempts = 2 }))),
		off("steady-clock", "TWO-IN-FLIGHT", setBack(jumps(base()))),
		off("signed-time", "TWO-IN-FLIGHT", jumps(set(base(), func(c *config) { c.Attempts = 2 }))),
		off("append-names-stream", "TWO-ENDS", newEpoch(two(base()))),
		off("carry-over", "TWO-IN-FLIGHT", newEpoch(base())),
		off("tombstone", "TWO-ENDS", newEpoch(base())),

		off("stored-later", "LOST", renumbered(base())),
		off("server-time", "LOST", renumbered(base())),
		off("recorded-replay", "COPY-SETTLED", copies(base())),
	}
}

// withdrawn: the balance moves, and what a later plan paid looks like an earlier one.
func withdrawn(c config) config { c.Withdrawn, c.Attempts, c.Faults.Deposit = true, 2, 1; return c }

// stuckNode: the node may be stuck with a request for longer than the margin, and a
// rival may close the session meanwhile.
func stuckNode(c config) config { c.Faults.Stuck, c.Faults.Rival = 1, 1; return c }

func (k check) run(limit int) (result, error) {
	c := k.config
	var err error
	if c.Rules, err = allBut(k.Off); err != nil {
		return result{}, err
	}
	return c.explore(limit, k.Ends), nil
}

// wrong says how a result differs from what the case must find.
func (k check) wrong(r result) string {
	switch {
	case r.Kind() != k.Want && r.Bad != "":
		return "found " + r.Bad
	case r.Kind() != k.Want:
		return "found no violation of " + k.Want
	case k.Want == "" && !r.Complete:
		return "not all states were visited"
	}
	return ""
}

func (k check) row(r result) string {
	node, rule, found := "expires", "all on", "no violation"
	if k.Versioned {
		node = "version"
	}
	if k.Off != "" {
		rule = "`" + k.Off + "` off"
	}
	if r.Bad != "" {
		found = fmt.Sprintf("%s after %d steps", r.Kind(), len(r.Trace))
	}
	return fmt.Sprintf("| `%s` | %s | %s | %d | %s | %d | %s |", k.Name, k.World, node, workers, rule, r.States, found)
}

const (
	tableBegins = "<!-- cases: written by make model -->\n"
	tableEnds   = "<!-- end of cases -->\n"
)

// writeTable puts the rows between the markers of a file.
func writeTable(path string, rows []string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(text, []byte(tableBegins))
	_, tail, foundToo := bytes.Cut(rest, []byte(tableEnds))
	if !found || !foundToo {
		return fmt.Errorf("%s has no place for the table", path)
	}
	table := "| case | world | node | replicas | rules | states | result |\n|---|---|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	var b bytes.Buffer
	b.Write(head)
	b.WriteString(tableBegins + table + tableEnds)
	b.Write(tail)
	return os.WriteFile(path, b.Bytes(), 0o644)
}
