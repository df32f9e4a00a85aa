package clearnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/settlement"
)

// Bounds of what one look reads. More is an error, and the caller waits.
const (
	maxLedgerPages  = 200 // of a session's transactions
	maxSessionPages = 50  // of a participant's sessions
	maxRereads      = 3   // of a ledger that moves while it is paged through
	maxOthers       = 16  // participants whose sessions are asked for
)

// errAbsent says that one look found neither a definition nor money.
var errAbsent = errors.New("no definition and no transactions")

// question is a read, and what becomes of its answer.
type question struct {
	method string
	params any
	read   func(answer) error
}

// questions asks all at once. The first error of any of them is returned when
// all are answered.
func (c *conn) questions(ctx context.Context, qs ...question) error {
	requests := make([]request, len(qs))
	at := c.nodeTime()
	for i, q := range qs {
		var err error
		if requests[i], err = c.dialect.question(q.method, q.params, at); err != nil {
			return err
		}
	}
	answers, err := c.round(ctx, requests...)
	if err != nil {
		return err
	}
	for i, q := range qs {
		if err := q.read(answers[i]); err != nil {
			return fmt.Errorf("%s: %w", q.method, err)
		}
	}
	return nil
}

// glimpse is what one look saw.
type glimpse struct {
	settlement.Session
	took time.Duration
}

// sight is a look in the making.
type sight struct {
	definition definition
	known      bool // the definition
	open       page // open sessions of our own, the first page
	rows       []row
	newest     answer // that held the newest of the rows
	listing    bool   // the assets were read in this look
}

// glance looks once. The list of open sessions is asked for first: one that is
// not in a whole list was closed by then, so that the transactions, which are read
// after it, are its last.
func (r *reading) glance(ctx context.Context) (glimpse, error) {
	began := time.Now()
	seen, err := r.take(ctx)
	if err != nil {
		return glimpse{}, err
	}
	s := settlement.Session{ID: r.id, Participants: slices.Clone(seen.definition.participants), Quorum: seen.definition.quorum, Protocol: seen.definition.protocol}
	for _, t := range seen.rows {
		if t.deposit {
			s.Deposits = append(s.Deposits, t.Transfer)
		} else {
			s.Payouts = append(s.Payouts, t.Transfer)
		}
	}
	if s.Decimals, err = r.decimals(ctx, s.Deposits, seen.listing); err != nil {
		return glimpse{}, err
	}
	if err := r.state(ctx, &s, seen); err != nil {
		return glimpse{}, err
	}
	protocol, err := protocolOf(seen.definition.protocol)
	s.Evidence = r.c.evidence(seen.newest, protocol)
	return glimpse{s, time.Since(began)}, err
}

// take reads what every look needs: in one round trip, unless the ledger has
// more than a page, or the definition turns out to spell us in its own way.
func (r *reading) take(ctx context.Context) (sight, error) {
	var seen sight
	seen.definition, seen.known = r.n.shelf.definition(r.id)
	own := r.spelling(seen.definition)
	absent := false
	qs := []question{r.askSessions(own, "open", 0, &seen.open)}
	if !seen.known {
		qs = append(qs, r.askDefinition(&seen.definition, &absent))
	}
	qs = append(qs, r.askTransactions(0, &seen.rows, &seen.newest))
	if r.n.shelf.assets() == nil {
		seen.listing = true
		qs = append(qs, r.askAssets())
	}
	if err := r.conn.questions(ctx, qs...); err != nil {
		return seen, err
	}
	switch {
	case absent && len(seen.rows) == 0 && seen.open.find(r.id) == nil:
		return seen, errAbsent
	case absent:
		return seen, fmt.Errorf("get_app_definition: the node has the session, and answers %s", quote(unknownText))
	case !seen.known && r.spelling(seen.definition) != own:
		return r.take(ctx) // the list was of nobody; now the spelling is known
	}
	return seen, r.page(ctx, &seen)
}

// spelling is what the node knows us by in a session: byte for byte as its
// definition has it.
func (r *reading) spelling(d definition) string {
	if s, found := d.spelled(r.own); found {
		return s
	}
	return r.own.String()
}

// page reads the rest of a ledger that has more than one page. Its rows come
// newest first, by offset: whatever moves them shows as a row seen twice, and then
// it is read again.
func (r *reading) page(ctx context.Context, seen *sight) error {
	defer func() { slices.SortFunc(seen.rows, older) }()
	if len(seen.rows) < pageSize {
		return nil
	}
	for range maxRereads {
		twice, err := r.pageOn(ctx, seen)
		if err != nil || !twice {
			return err
		}
		if err := r.conn.questions(ctx, r.askTransactions(0, &seen.rows, &seen.newest)); err != nil {
			return err
		}
	}
	return errors.New("its transactions move while they are read: looking again later")
}

func (r *reading) pageOn(ctx context.Context, seen *sight) (twice bool, err error) {
	ids := map[uint64]bool{}
	for n := 1; ; n++ {
		for _, t := range seen.rows[(n-1)*pageSize:] {
			twice = twice || ids[t.id]
			ids[t.id] = true
		}
		if twice || len(seen.rows) < n*pageSize {
			return twice, nil
		}
		if n >= maxLedgerPages {
			return false, fmt.Errorf("more than %d transactions", n*pageSize)
		}
		var next []row
		if err := r.conn.questions(ctx, r.askTransactions(n*pageSize, &next, nil)); err != nil {
			return false, err
		}
		seen.rows = append(seen.rows, next...)
	}
}

// older orders rows as they happened.
func older(a, b row) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.id, b.id))
}

// decimals are those of the session's assets. One that isn't listed is asked for
// again: it may be new.
func (r *reading) decimals(ctx context.Context, deposits []settlement.Transfer, listedNow bool) (map[settlement.Asset]int32, error) {
	decimals := map[settlement.Asset]int32{}
	for _, d := range deposits {
		n, found := r.n.shelf.assets()[d.Asset]
		if !found && !listedNow {
			if err := r.conn.questions(ctx, r.askAssets()); err != nil {
				return nil, err
			}
			listedNow = true
			n, found = r.n.shelf.assets()[d.Asset]
		}
		if !found {
			return nil, fmt.Errorf("the node does not list asset %s, which is in the session: its smallest unit is not known", quote(string(d.Asset)))
		}
		decimals[d.Asset] = n
	}
	return decimals, nil
}

func (r *reading) askTransactions(offset int, rows *[]row, into *answer) question {
	return question{"get_ledger_transactions", transactionsOf{r.id, pageSize, offset}, func(a answer) (err error) {
		*rows, err = readTransactions(a, r.id)
		if into != nil {
			*into = a
		}
		return err
	}}
}

func (r *reading) askSessions(participant, status string, n int, into *page) question {
	return r.askSorted(participant, status, "", n, into)
}

func (r *reading) askSorted(participant, status, sort string, n int, into *page) question {
	return askList(sessionsOf{participant, status, pageSize, n * pageSize, sort}, into)
}

func askList(of sessionsOf, into *page) question {
	return question{"get_app_sessions", of, func(a answer) (err error) {
		*into, err = readSessions(a)
		return err
	}}
}

// askDefinition keeps what it reads. Absent is set where the node does not have
// it, or can't say.
func (r *reading) askDefinition(into *definition, absent *bool) question {
	return question{"get_app_definition", definitionOf{r.id}, func(a answer) error {
		d, err := readDefinition(a)
		if isUnknown(err) {
			*absent = true
			return nil
		}
		if err != nil {
			return err
		}
		*into = d
		r.n.shelf.keep(r.id, d)
		return nil
	}}
}

func (r *reading) askAssets() question {
	return question{"get_assets", struct{}{}, func(a answer) error {
		decimals, err := readAssets(a)
		if err == nil {
			r.n.shelf.keepAssets(decimals)
		}
		return err
	}}
}
