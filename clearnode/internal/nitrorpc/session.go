package nitrorpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Bounds of one read. More is an error, and the caller waits.
const (
	maxTransactionPages = 200 // of a session's transactions
	maxSessionPages     = 50  // of a participant's sessions
	maxRereads          = 3   // of transactions that move while they are paged through
)

// ReadSession reads a session once, or twice where one read could mislead.
func (n *Node) ReadSession(ctx context.Context, c protocol.Conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	r := sessionReader{n: n, conn: c, id: id, options: options, listed: options.InDoubt || options.Version}
	first, err := r.readOnce(ctx)
	if errors.Is(err, protocol.ErrAbsent) {
		return first.Session, r.confirmAbsent(ctx)
	}
	if err != nil {
		return first.Session, err
	}
	// A close writes a row even where there is nothing to pay. So a session without rows
	// that is in no list of open ones may have been made during the read.
	closed := !first.Open && len(first.Deposits)+len(first.Payouts) > 0
	unfunded := first.Unfunded()
	switch {
	case closed && options.InDoubt:
		second, err := r.readOnce(ctx)
		if err != nil || second.Open {
			return first.Session, nil // what is closed stays closed
		}
		second.ConfirmedStable = n.settings.Quick(first.Took, second.Took)
		return second.Session, nil
	case closed:
		return first.Session, nil
	case unfunded:
		if err := protocol.Pause(ctx, n.settings.SecondRead); err != nil {
			return first.Session, err
		}
	case !options.InDoubt:
		return first.Session, nil
	}
	second, err := r.readOnce(ctx)
	if err != nil {
		return second.Session, fmt.Errorf("second read: %w", err)
	}
	if second.Open && second.Unfunded() && !unfunded {
		return second.Session, errors.New("the session was emptied between two reads; it will be read again")
	}
	second.ConfirmedStable = options.InDoubt && second.Open && n.settings.Quick(first.Took, second.Took)
	return second.Session, nil
}

// sessionReader reads one session, on one connection.
type sessionReader struct {
	n       *Node
	conn    protocol.Conn
	id      settlement.SessionID
	options settlement.ReadOptions
	listed  bool // the lists of sessions are needed too
}

// confirmAbsent reads a second time a session that seemed to be absent. The node answers
// the definition of an unknown session, and of any session while its database is away,
// with the same words; only transactions read before and after tell the two apart.
func (r *sessionReader) confirmAbsent(ctx context.Context) error {
	if err := protocol.Pause(ctx, r.n.settings.SecondRead); err != nil {
		return err
	}
	var before, after []transaction
	absent := false
	err := r.conn.AskAll(ctx, r.askTransactions(0, &before, nil), r.askDefinition(new(Definition), &absent), r.askTransactions(0, &after, nil))
	if err != nil {
		return fmt.Errorf("second read: %w", err)
	}
	if !absent || len(before) > 0 || len(after) > 0 {
		return protocol.ErrAppeared
	}
	return settlement.ErrSessionNotFound
}

// partialRead is what one read has shown so far.
type partialRead struct {
	definition   Definition
	own          string      // the definition's spelling of our account
	open         SessionPage // our open sessions, the first page, if the lists are needed
	transactions []transaction
	newest       protocol.Answer // that held the newest of the transactions
	freshAssets  bool            // the assets were listed in this read
}

// readOnce reads the session, without the lists of sessions if its transactions alone show
// that it is open (see findState). They don't show its version, and after a request in
// doubt both are read.
func (r *sessionReader) readOnce(ctx context.Context) (protocol.Snapshot, error) {
	began := time.Now()
	s, err := r.read(ctx)
	return protocol.Snapshot{Session: s, Took: time.Since(began)}, err
}

// read reads the session. If the lists are needed, it reads that of our open sessions first:
// a session that is not in a complete list was closed by then, so that the transactions,
// which are read after it, are its last.
func (r *sessionReader) read(ctx context.Context) (settlement.Session, error) {
	p, err := r.readParts(ctx)
	if err != nil {
		return settlement.Session{}, err
	}
	s := settlement.Session{
		ID: r.id, Participants: slices.Clone(p.definition.Participants), Quorum: p.definition.Quorum,
		Protocol: p.definition.Protocol, Decimals: map[settlement.Asset]int32{},
	}
	for _, t := range p.transactions {
		if !t.deposit {
			s.Payouts = append(s.Payouts, t.Transfer)
			continue
		}
		s.Deposits = append(s.Deposits, t.Transfer)
		decimals, known, err := r.n.assets.Decimals(ctx, r.conn, t.Asset, &p.freshAssets)
		if err != nil {
			return settlement.Session{}, err
		}
		if !known {
			return settlement.Session{}, protocol.ErrUnlisted(t.Asset)
		}
		s.Decimals[t.Asset] = decimals
	}
	if _, _, _, overpaid := s.Overpaid(); !r.listed && !overpaid && s.Unfunded() {
		r.listed = true
		return r.read(ctx)
	}
	if err := r.findState(ctx, &s, p); err != nil {
		return settlement.Session{}, err
	}
	name, err := protocolName(p.definition.Protocol)
	s.Evidence = protocol.Evidence(p.newest, name)
	return s, err
}

// readParts reads what every read needs, in one round trip unless there is more than a
// page of transactions, or the definition spells our account in its own way.
func (r *sessionReader) readParts(ctx context.Context) (partialRead, error) {
	var p partialRead
	account := r.n.settings.Account()
	known, absent := false, false
	p.definition, known = r.n.definitions.Get(r.id)
	p.own = p.definition.SpellingOf(account)
	var questions []protocol.Question
	if r.listed {
		questions = append(questions, askSessions(p.own, "open", "", 0, &p.open))
	}
	if !known {
		questions = append(questions, r.askDefinition(&p.definition, &absent))
	}
	questions = append(questions, r.askTransactions(0, &p.transactions, &p.newest))
	if r.n.assets.Listed() == nil {
		p.freshAssets = true
		questions = append(questions, r.n.assets.Question())
	}
	if err := r.conn.AskAll(ctx, questions...); err != nil {
		return p, err
	}
	if absent && len(p.transactions) == 0 && !r.listed { // the list may show that the node has it
		if err := r.conn.AskAll(ctx, askSessions(p.own, "open", "", 0, &p.open)); err != nil {
			return p, err
		}
	}
	switch {
	case absent && len(p.transactions) == 0 && p.open.Find(r.id) == nil:
		return p, protocol.ErrAbsent
	case absent:
		return p, fmt.Errorf("get_app_definition: the node has the session, and answers %s", protocol.Quote(unknownText))
	case r.listed && !known && p.definition.SpellingOf(account) != p.own:
		return r.readParts(ctx) // the list was of another spelling; now ours is known
	}
	return p, r.readAllTransactions(ctx, &p)
}

// readAllTransactions reads the pages after the first. Rows come newest first, by offset:
// whatever moves them shows a row twice, and then all are read again.
func (r *sessionReader) readAllTransactions(ctx context.Context, p *partialRead) error {
	defer func() {
		slices.SortFunc(p.transactions, func(a, b transaction) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.id, b.id)) })
	}()
	if len(p.transactions) < protocol.PageSize {
		return nil
	}
	for range maxRereads {
		moved, err := r.readFurtherPages(ctx, p)
		if err != nil || !moved {
			return err
		}
		if err := r.conn.AskAll(ctx, r.askTransactions(0, &p.transactions, &p.newest)); err != nil {
			return err
		}
	}
	return errors.New("its transactions change while they are read; it will be read again")
}

func (r *sessionReader) readFurtherPages(ctx context.Context, p *partialRead) (moved bool, err error) {
	ids := map[uint64]bool{}
	for page := 1; ; page++ {
		for _, t := range p.transactions[(page-1)*protocol.PageSize:] {
			moved = moved || ids[t.id]
			ids[t.id] = true
		}
		if moved || len(p.transactions) < page*protocol.PageSize {
			return moved, nil
		}
		if page >= maxTransactionPages {
			return false, fmt.Errorf("more than %d transactions", page*protocol.PageSize)
		}
		var next []transaction
		if err := r.conn.AskAll(ctx, r.askTransactions(page*protocol.PageSize, &next, nil)); err != nil {
			return false, err
		}
		p.transactions = append(p.transactions, next...)
	}
}

func (r *sessionReader) askTransactions(offset int, rows *[]transaction, answer *protocol.Answer) protocol.Question {
	params := transactionsParams{r.id, protocol.PageSize, offset}
	return protocol.Question{Method: "get_ledger_transactions", Params: params, Read: func(a protocol.Answer) (err error) {
		*rows, err = readTransactions(a, r.id)
		if answer != nil {
			*answer = a
		}
		return err
	}}
}

// askDefinition reads and caches the definition. absent is set where the node does not have
// it, or can't say.
func (r *sessionReader) askDefinition(into *Definition, absent *bool) protocol.Question {
	return protocol.Question{Method: "get_app_definition", Params: DefinitionParams{r.id}, Read: func(a protocol.Answer) error {
		d, err := readDefinition(a)
		if isUnknown(err) {
			*absent = true
			return nil
		}
		if err == nil {
			*into = d
			r.n.definitions.Add(r.id, d)
		}
		return err
	}}
}

// findState finds out whether the session is open, and its version if that is needed. No
// read by session id shows either. Of each asset, deposits and payouts do:
//
//	more out than in    paid twice; nothing else matters
//	less out than in    open: a close pays out everything
//	as much, or nothing closed, or emptied, or never funded: the lists of
//	                    sessions show it as open or closed
//
// The lists are by participant, newest first, a hundred rows a page. The list of our open
// sessions was read already, unless the transactions alone show the state. A list proves
// absence only if it is complete, and if it is of a participant, spelled as in the
// definition; that of any of them does, so that one with thousands of sessions hides nothing.
func (r *sessionReader) findState(ctx context.Context, s *settlement.Session, p partialRead) error {
	if _, _, _, found := s.Overpaid(); found {
		return nil
	}
	ours := slices.ContainsFunc(p.definition.Participants, func(of settlement.Participant) bool { return of.Address == r.n.settings.Account() })
	complete := ours && r.listed && p.open.complete()
	switch row := p.open.Find(r.id); {
	case row != nil:
		return applyRow(s, row)
	case !s.Unfunded():
		s.Open = true
		if !r.options.Version {
			return nil
		}
		return r.findVersion(ctx, s, p, complete)
	case complete:
		return r.findClosed(ctx, s, p.own)
	}
	return r.searchOthers(ctx, s, p)
}

// applyRow copies a session's row of a list.
func applyRow(s *settlement.Session, row *ListedSession) error {
	if row.Status != "open" && row.Status != "closed" {
		return fmt.Errorf("get_app_sessions: the session's status is %s", protocol.Quote(row.Status))
	}
	s.Open, s.Version, s.Application = row.Status == "open", row.Version, row.Application
	return nil
}

// findVersion looks for an open session's version in the lists of other participants. Our
// own was complete, or too long to hold it. Oldest first: where many sessions are open,
// those that are settled now have waited longest.
func (r *sessionReader) findVersion(ctx context.Context, s *settlement.Session, p partialRead, complete bool) error {
	others := p.definition.Others(p.own)
	for page := 0; page < maxSessionPages && !complete; page++ {
		row, completeOf, err := r.findOpen(ctx, others, "asc", page)
		if row != nil {
			return applyRow(s, row)
		}
		if err != nil {
			return err
		}
		complete, others = completeOf != "", others[:1]
	}
	return errors.New("its version is needed and can't be found: it is in no list of open sessions")
}

// findOpen looks for the session on a page of the open sessions of each of some
// participants, in one round trip. Where it isn't, completeOf is a participant whose list
// ends there, if there is one.
func (r *sessionReader) findOpen(ctx context.Context, participants []string, sort string, page int) (row *ListedSession, completeOf string, err error) {
	open := make([]SessionPage, len(participants))
	questions := make([]protocol.Question, len(participants))
	for i, p := range participants {
		questions[i] = askSessions(p, "open", sort, page, &open[i])
	}
	if err := r.conn.AskAll(ctx, questions...); err != nil {
		return nil, "", err
	}
	for i, p := range participants {
		if row := open[i].Find(r.id); row != nil {
			return row, "", nil
		}
		if completeOf == "" && open[i].complete() {
			completeOf = p
		}
	}
	return nil, completeOf, nil
}

// findClosed looks for the session where it is if it was closed recently. The list shows
// its version, which isn't needed.
func (r *sessionReader) findClosed(ctx context.Context, s *settlement.Session, participant string) error {
	var closed SessionPage
	if err := r.conn.AskAll(ctx, askSessions(participant, "closed", "", 0, &closed)); err != nil {
		return err
	}
	if row := closed.Find(r.id); row != nil {
		return applyRow(s, row)
	}
	return nil
}

// searchOthers looks for the session in the lists of the other participants. It is enough
// that one of them has few open ones; only where all have many are the lists of one paged
// through.
func (r *sessionReader) searchOthers(ctx context.Context, s *settlement.Session, p partialRead) error {
	others := p.definition.Others(p.own)
	row, completeOf, err := r.findOpen(ctx, others, "", 0)
	switch {
	case err != nil:
		return err
	case row != nil:
		return applyRow(s, row)
	case completeOf != "":
		if err := r.findClosed(ctx, s, completeOf); err != nil {
			return err
		}
		return r.confirmUnchanged(ctx, p)
	}
	for page := range maxSessionPages {
		var open, closed SessionPage
		err := r.conn.AskAll(ctx, askSessions(others[0], "open", "", page, &open), askSessions(others[0], "closed", "", page, &closed))
		if err != nil {
			return err
		}
		if row := open.Find(r.id); row != nil {
			return applyRow(s, row)
		}
		row := closed.Find(r.id)
		if row != nil {
			if err := applyRow(s, row); err != nil {
				return err
			}
		}
		if row != nil || page == 0 && open.complete() {
			return r.confirmUnchanged(ctx, p)
		}
		if open.complete() && closed.complete() {
			break
		}
	}
	return errors.New("it is in no list of sessions, open or closed; it will be read again")
}

// confirmUnchanged demands that no transaction is newer than those that were read before
// the lists: the session may have been closed in between.
func (r *sessionReader) confirmUnchanged(ctx context.Context, p partialRead) error {
	var now []transaction
	if err := r.conn.AskAll(ctx, r.askTransactions(0, &now, nil)); err != nil {
		return err
	}
	newest := uint64(0)
	for _, t := range p.transactions {
		newest = max(newest, t.id)
	}
	for _, t := range now {
		if t.id > newest {
			return errors.New("it was closed while it was read; it will be read again")
		}
	}
	return nil
}
