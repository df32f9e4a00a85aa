package status

import (
	"context"
	"errors"
	"fmt"

	"settled/settlement"
)

// Question names one outcome: by the sequence of its message in OUTCOMES, by its session, or
// by its source and id.
type Question struct {
	Sequence uint64 `json:"sequence,omitempty"`
	Session  string `json:"session_id,omitempty"`
	Source   string `json:"source,omitempty"`
	ID       string `json:"id,omitempty"`
}

// ErrQuestion means that a question names no outcome, or several ways.
var ErrQuestion = errors.New("name one outcome: by sequence, by session, or by source and id")

// Ask answers a question. With an id it searches the most newest messages (0: all). Errors:
// ErrQuestion, ErrNotFound.
func (r *Reader) Ask(ctx context.Context, q Question, most uint64) (Answer, error) {
	switch {
	case q.Sequence > 0 && q.Session+q.Source+q.ID == "":
		return r.BySequence(ctx, q.Sequence)
	case q.Session != "" && q.Sequence == 0 && q.Source+q.ID == "":
		id, err := settlement.ParseSessionID(q.Session)
		if err != nil {
			return Answer{}, fmt.Errorf("%w: %w", ErrQuestion, err)
		}
		return r.BySession(ctx, id)
	case q.Source != "" && q.ID != "" && q.Sequence == 0 && q.Session == "":
		return r.ByID(ctx, q.Source, q.ID, most)
	}
	return Answer{}, ErrQuestion
}
