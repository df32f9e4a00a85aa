package dashboard

import (
	"net/http"
	"strconv"

	"settled/settlement"
)

const (
	// maxQuestions bounds the questions about outcomes that are answered at the same time: one
	// can read thousands of messages.
	maxQuestions = 4
	// maxSearched is how many of the newest messages of OUTCOMES are searched for an id.
	maxSearched = 20_000
)

// outcome tells what became of an outcome, by the sequence of its message, by its session, or by
// its source and id.
func (b *Board) outcome(r *http.Request) (any, error) {
	select {
	case b.questions <- struct{}{}:
		defer func() { <-b.questions }()
	case <-r.Context().Done():
		return nil, apiError{http.StatusServiceUnavailable, "too many questions at the same time: ask again"}
	}
	q := r.URL.Query()
	sequence, session, source, id := q.Get("sequence"), q.Get("session"), q.Get("source"), q.Get("id")
	switch {
	case sequence != "" && session+source+id == "":
		n, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil || n == 0 {
			return nil, apiError{http.StatusBadRequest, "sequence: want a whole number above zero"}
		}
		return b.cfg.Outcomes.BySequence(r.Context(), n)
	case session != "" && sequence+source+id == "":
		parsed, err := settlement.ParseSessionID(session)
		if err != nil {
			return nil, apiError{http.StatusBadRequest, err.Error()}
		}
		return b.cfg.Outcomes.BySession(r.Context(), parsed)
	case source != "" && id != "" && sequence+session == "":
		return b.cfg.Outcomes.ByID(r.Context(), source, id, maxSearched)
	}
	return nil, apiError{http.StatusBadRequest, "name one outcome: by sequence, by session, or by source and id"}
}
