package dashboard

import (
	"errors"
	"net/http"

	"settled/cmd/settled/internal/status"
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
	values := r.URL.Query()
	q := status.Question{Session: values.Get("session"), Source: values.Get("source"), ID: values.Get("id")}
	var err error
	if q.Sequence, err = queryNumber(r, "sequence", 0); err != nil {
		return nil, err
	}
	answer, err := b.cfg.Outcomes.Ask(r.Context(), q, maxSearched)
	if errors.Is(err, status.ErrQuestion) {
		err = apiError{http.StatusBadRequest, err.Error()}
	}
	return answer, err
}
