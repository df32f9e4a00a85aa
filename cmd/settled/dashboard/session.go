package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

const (
	maxSessionEntries  = 200    // of a session's page, and the last one
	maxSessionMessages = 10_000 // that are read of a session: whoever can write to the ledger can store any number
)

// sessionPage is everything recorded of a session.
type sessionPage struct {
	Session  string               `json:"session_id"`
	Standing *settlement.Standing `json:"standing"` // nil without an entry
	Entries  []entryView          `json:"entries"`  // oldest first
	Whole    bool                 `json:"whole"`    // no entry is left out
	Foreign  messageCount         `json:"foreign"`  // messages on its subjects that are not entries, and have no effect
	Chain    string               `json:"chain"`    // which entry does not continue the hash chain; empty: every one does
}

type entryView struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	State    string    `json:"state"`
	Raw      string    `json:"raw"` // the event as stored, indented
	Problem  string    `json:"problem,omitempty"`
}

func (b *Board) session(r *http.Request) (any, error) {
	var id settlement.SessionID
	if text := r.PathValue("id"); text != settlement.UnknownSession {
		var err error
		if id, err = settlement.ParseSessionID(text); err != nil {
			return nil, apiError{http.StatusBadRequest, err.Error()}
		}
	}
	history, err := b.reader.readSession(r.Context(), id, maxSessionEntries)
	if err != nil {
		return nil, err
	}
	entries := history.entries
	if len(entries) == 0 {
		return nil, apiError{http.StatusNotFound, "the ledger has no entry of this session: no outcome of it has a result yet"}
	}
	page := sessionPage{Session: id.Token(), Whole: history.complete, Foreign: history.foreign, Entries: []entryView{}}
	for _, s := range entries {
		page.Entries = append(page.Entries, newEntryView(s))
	}
	if id != "" {
		page.Chain = checkChain(entries, history.complete)
		last := entries[len(entries)-1]
		standing := settlement.Head{Session: id, Last: &last.Entry}.Standing()
		page.Standing = &standing
	}
	return page, nil
}

func newEntryView(s ledger.Stored) entryView {
	v := entryView{Sequence: s.Sequence, Time: s.Time, State: string(s.Entry.State), Raw: string(s.Payload)}
	if s.Err != nil {
		v.Problem = s.Err.Error()
		tokens := strings.Split(s.Subject, ".")
		v.State = tokens[max(len(tokens)-2, 0)]
	}
	var indented bytes.Buffer
	if json.Indent(&indented, s.Payload, "", "  ") == nil {
		v.Raw = indented.String()
	}
	v.Raw = strings.ToValidUTF8(v.Raw, "\uFFFD")
	return v
}

// checkChain reports the first entry that does not carry the hash of the one before it.
func checkChain(entries []ledger.Stored, complete bool) string {
	previous := ""
	for i, s := range entries {
		if i == len(entries)-1 && !complete {
			break // entries before the last one are left out
		}
		if s.Err != nil || s.Entry.Previous == nil || *s.Entry.Previous != previous {
			return "entry " + strconv.FormatUint(s.Sequence, 10) + " does not carry the hash of the entry before it: run settled ledger verify"
		}
		sum := sha256.Sum256(s.Payload)
		previous = hex.EncodeToString(sum[:])
	}
	return ""
}

// ledgerReader reads the ledger's stream.
type ledgerReader struct {
	js     jetstream.JetStream
	prefix string
}

// checkConnected fails if NATS is disconnected: a request would wait for it.
func (l ledgerReader) checkConnected() error {
	if !l.js.Conn().IsConnected() {
		return fmt.Errorf("the dashboard is not connected to NATS: %w", nats.ErrDisconnected)
	}
	return nil
}

func (l ledgerReader) stream() *streamreader.Reader {
	return streamreader.New(l.js, ledger.StreamName(l.prefix))
}

// allFrom selects all entries from a sequence on.
func (l ledgerReader) allFrom(sequence uint64) streamreader.Selection {
	return streamreader.Selection{Subjects: []string{ledger.Subject(l.prefix, "*", "*")}, From: sequence}
}

func (l ledgerReader) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	if err := l.checkConnected(); err != nil {
		return nil, err
	}
	return l.stream().Info(ctx)
}

// sessionHistory is what the ledger has of a session.
type sessionHistory struct {
	entries  []ledger.Stored // oldest first; if not all, the first ones and the last one
	complete bool            // no entry is left out
	foreign  messageCount
}

var errTooManyMessages = errors.New("too many messages")

// readSession reads the entries of a session: at most limit, and the last one.
func (l ledgerReader) readSession(ctx context.Context, id settlement.SessionID, limit int) (h sessionHistory, err error) {
	if err := l.checkConnected(); err != nil {
		return sessionHistory{}, err
	}
	var last *ledger.Stored
	read := 0
	err = ledger.EachInSession(ctx, ledger.StreamSource(l.stream().Once()), l.prefix, id, func(m ledger.Stored) error {
		if read++; read > maxSessionMessages {
			return errTooManyMessages
		}
		switch {
		case m.Foreign != nil:
			h.foreign.Count, h.foreign.Last = h.foreign.Count+1, m.Sequence
		case len(h.entries) < limit:
			h.entries = append(h.entries, m)
		default:
			last = &m
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooManyMessages) {
		return sessionHistory{}, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	if last != nil {
		h.entries = append(h.entries, *last)
	}
	h.complete = err == nil && len(h.entries) <= limit
	return h, nil
}

// readBefore reads the messages at the count sequences below one, newest first.
func (l ledgerReader) readBefore(ctx context.Context, sequence, count uint64) ([]ledger.Stored, error) {
	if err := l.checkConnected(); err != nil {
		return nil, err
	}
	var found []ledger.Stored
	_, err := ledger.List(ctx, l.stream(), l.allFrom(max(sequence, count+1)-count), false, func(s ledger.Stored) error {
		if s.Sequence >= sequence {
			return streamreader.ErrEnough
		}
		found = append(found, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("entries below %d: %w", sequence, err)
	}
	slices.Reverse(found)
	return found, nil
}
