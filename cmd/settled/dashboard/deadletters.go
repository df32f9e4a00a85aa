package dashboard

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger/streamreader"
)

// The bounds of requests for dead letters.
const (
	deadLettersPerPage = 50
	maxStretches       = 12       // of the stream that are read for one page
	maxPayloadBytes    = 64 << 10 // that are shown
	maxDiscardBytes    = 8 << 10  // of the body of a request to discard
)

// deadLetterPage is a page of dead letters, newest first.
type deadLetterPage struct {
	Letters []deadletter.Letter `json:"letters"`
	Next    uint64              `json:"next"` // before= of the next page; 0: there is none
	Total   uint64              `json:"total"`
}

// deadLetters returns a page of the dead letters with a sequence below before=. Replayed
// and discarded ones leave gaps in the stream, so it reads longer and longer stretches.
func (b *Board) deadLetters(r *http.Request) (any, error) {
	info, err := streamreader.New(b.cfg.JS, consumer.DeadLettersStream(b.cfg.Prefix)).Info(r.Context())
	if err != nil {
		return nil, err
	}
	state := info.State
	first, end := max(state.FirstSeq, 1), state.LastSeq+1
	before, err := queryNumber(r, "before", end)
	if err != nil {
		return nil, err
	}
	before = min(before, end)
	page := deadLetterPage{Letters: []deadletter.Letter{}, Total: state.Msgs}
	width := uint64(2 * deadLettersPerPage)
	for range maxStretches {
		if before <= first || state.Msgs == 0 || len(page.Letters) >= deadLettersPerPage {
			break
		}
		from := max(before-min(width, before), first)
		found, err := b.cfg.DeadLetters.List(r.Context(), deadletter.Filter{From: from, Limit: 2 * deadLettersPerPage})
		if err != nil {
			return nil, err
		}
		incomplete := len(found) == 2*deadLettersPerPage && found[len(found)-1].Sequence+1 < before
		if incomplete { // the limit cut off the newest: read a shorter stretch
			width = 2 * deadLettersPerPage
			continue
		}
		found = slices.DeleteFunc(found, func(l deadletter.Letter) bool { return l.Sequence >= before })
		slices.Reverse(found)
		page.Letters = append(page.Letters, found...)
		before, width = from, width*4
	}
	if len(page.Letters) > deadLettersPerPage {
		page.Letters = page.Letters[:deadLettersPerPage]
		before = page.Letters[deadLettersPerPage-1].Sequence
	}
	if before > first && state.Msgs > 0 {
		page.Next = before
	}
	return page, nil
}

// deadLetterView is a dead letter with its message.
type deadLetterView struct {
	deadletter.Letter
	Headers map[string][]string `json:"headers"`
	Payload string              `json:"payload"`
	Binary  bool                `json:"binary"` // the payload is not UTF-8; invalid bytes are replaced
	Size    int                 `json:"size"`   // of the payload, in bytes; only the first 64 KiB are shown
}

func (b *Board) deadLetter(r *http.Request) (any, error) {
	sequence, err := pathSequence(r)
	if err != nil {
		return nil, err
	}
	l, err := b.cfg.DeadLetters.Get(r.Context(), sequence)
	if err != nil {
		return nil, err
	}
	v := deadLetterView{Letter: l, Headers: l.Header, Size: len(l.Payload), Binary: !utf8.Valid(l.Payload)}
	v.Payload = strings.ToValidUTF8(string(l.Payload[:min(len(l.Payload), maxPayloadBytes)]), "\uFFFD")
	return v, nil
}

func pathSequence(r *http.Request) (uint64, error) {
	n, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil {
		return 0, apiError{http.StatusBadRequest, "want the sequence of a dead letter, a whole number"}
	}
	return n, nil
}

func (b *Board) replay(r *http.Request) (any, error) {
	sequence, err := pathSequence(r)
	if err != nil {
		return nil, err
	}
	result, err := b.cfg.DeadLetters.Replay(r.Context(), sequence)
	if err != nil {
		return nil, err
	}
	b.cfg.Log.Info().Uint64("dead_letter", sequence).Uint64("outcome_sequence", result.Sequence).Str("from", r.RemoteAddr).Msg("a dead letter was replayed from the dashboard")
	return result, nil
}

// discardResult answers a discard.
type discardResult struct {
	DeadLetter uint64 `json:"dead_letter"`
	Discarded  bool   `json:"discarded"`
}

func (b *Board) discard(r *http.Request) (any, error) {
	sequence, err := pathSequence(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxDiscardBytes)).Decode(&body); err != nil || strings.TrimSpace(body.Reason) == "" {
		return nil, apiError{http.StatusBadRequest, `give a reason, as {"reason": "…"}: it is recorded`}
	}
	if err := b.cfg.DeadLetters.Discard(r.Context(), sequence, body.Reason); err != nil {
		return nil, err
	}
	b.cfg.Log.Info().Uint64("dead_letter", sequence).Str("from", r.RemoteAddr).Msg("a dead letter was discarded from the dashboard")
	return discardResult{sequence, true}, nil
}
