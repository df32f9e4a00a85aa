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
	"settled/ledger/streamreader"
)

// The bounds of pages of dead letters.
const (
	lettersPage   = 50
	mostSteps     = 12       // stretches of the stream that one page looks at
	mostPayload   = 64 << 10 // bytes of a payload that are shown
	mostDiscarded = 8 << 10  // bytes of a request to discard
)

// online asks only where NATS is there.
func (b *Board) online(answer func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if err := b.src.connected(); err != nil {
			return nil, err
		}
		return answer(r)
	}
}

// letterPage is a page of dead letters, newest first.
type letterPage struct {
	Letters []consumer.DeadLetter `json:"letters"`
	Next    uint64                `json:"next"`  // before= of the next page; 0: there is none
	Total   uint64                `json:"total"` // when last looked
}

// letters answers a page below the sequence before=. What was replayed or discarded
// leaves gaps, so it looks at wider and wider stretches of the stream.
func (b *Board) letters(r *http.Request) (any, error) {
	info, err := streamreader.New(b.cfg.JS, consumer.DeadLettersStream(b.cfg.Prefix)).Info(r.Context())
	if err != nil {
		return nil, err
	}
	state := info.State
	before, err := number(r, "before", state.LastSeq+1)
	if err != nil {
		return nil, err
	}
	page := letterPage{Letters: []consumer.DeadLetter{}, Total: state.Msgs}
	before = min(before, state.LastSeq+1)
	width := uint64(2 * lettersPage)
	for step := 0; step < mostSteps && before > max(state.FirstSeq, 1) && state.Msgs > 0 && len(page.Letters) < lettersPage; step++ {
		from := max(before-min(width, before), state.FirstSeq, 1)
		found, err := b.cfg.Letters.List(r.Context(), consumer.Filter{From: from, Limit: 2 * lettersPage})
		if err != nil {
			return nil, err
		}
		beyond := len(found) == 2*lettersPage && found[len(found)-1].Sequence+1 < before // more than fit: look closer
		found = slices.DeleteFunc(found, func(l consumer.DeadLetter) bool { return l.Sequence >= before })
		if beyond {
			width = 2 * lettersPage
			continue
		}
		slices.Reverse(found)
		page.Letters = append(page.Letters, found...)
		before, width = from, width*4
	}
	if len(page.Letters) > lettersPage {
		page.Letters = page.Letters[:lettersPage]
		before = page.Letters[lettersPage-1].Sequence
	}
	if before > max(state.FirstSeq, 1) && state.Msgs > 0 {
		page.Next = before
	}
	return page, nil
}

// shownLetter is a dead letter with its message.
type shownLetter struct {
	consumer.DeadLetter
	Headers map[string][]string `json:"headers"`
	Payload string              `json:"payload"`
	Binary  bool                `json:"binary"` // the payload is no text: what is no UTF-8 is replaced
	Size    int                 `json:"size"`   // of the payload, in bytes; only the first 64 KiB are shown
}

func (b *Board) letter(r *http.Request) (any, error) {
	sequence, err := sequenceOf(r)
	if err != nil {
		return nil, err
	}
	l, err := b.cfg.Letters.Get(r.Context(), sequence)
	if err != nil {
		return nil, err
	}
	shown := shownLetter{DeadLetter: l, Headers: l.Header, Size: len(l.Payload), Binary: !utf8.Valid(l.Payload)}
	shown.Payload = strings.ToValidUTF8(string(l.Payload[:min(len(l.Payload), mostPayload)]), "\uFFFD")
	return shown, nil
}

func sequenceOf(r *http.Request) (uint64, error) {
	n, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil {
		return 0, problem{http.StatusBadRequest, "a dead letter is named by its sequence, a whole number"}
	}
	return n, nil
}

func (b *Board) replay(r *http.Request) (any, error) {
	sequence, err := sequenceOf(r)
	if err != nil {
		return nil, err
	}
	done, err := b.cfg.Letters.Replay(r.Context(), sequence)
	if err != nil {
		return nil, err
	}
	b.cfg.Log.Info().Uint64("dead_letter", sequence).Uint64("outcome_sequence", done.Sequence).Str("from", r.RemoteAddr).Msg("a dead letter was replayed from the dashboard")
	return done, nil
}

// discarded is what a discard answers.
type discarded struct {
	DeadLetter uint64 `json:"dead_letter"`
	Discarded  bool   `json:"discarded"`
}

func (b *Board) discard(r *http.Request) (any, error) {
	sequence, err := sequenceOf(r)
	if err != nil {
		return nil, err
	}
	var asked struct {
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, mostDiscarded)).Decode(&asked); err != nil || strings.TrimSpace(asked.Reason) == "" {
		return nil, problem{http.StatusBadRequest, `give a reason, as {"reason": "…"}: it is recorded`}
	}
	if err := b.cfg.Letters.Discard(r.Context(), sequence, asked.Reason); err != nil {
		return nil, err
	}
	b.cfg.Log.Info().Uint64("dead_letter", sequence).Str("from", r.RemoteAddr).Msg("a dead letter was discarded from the dashboard")
	return discarded{sequence, true}, nil
}
