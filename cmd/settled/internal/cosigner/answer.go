package cosigner

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/nats-io/nats.go"

	"settled/settlement"
)

// cosignQueue is how many requests wait for a worker. Whoever comes when it is full
// is told so.
const cosignQueue = 1024

// cosignRequest is one request as it came.
type cosignRequest struct {
	of   settlement.Address
	msg  *nats.Msg
	came time.Time
}

// Cosigned is what became of a request: for the log, the metrics and --output json.
// It holds neither the bytes that were to be signed nor a signature.
type Cosigned struct {
	Address  string               `json:"address"`
	Session  settlement.SessionID `json:"session_id"`
	Scenario string               `json:"scenario"`
	Source   string               `json:"source"`
	ID       string               `json:"id"`
	Sequence uint64               `json:"sequence"`
	Answer   string               `json:"answer"` // signed, refused or waiting
	Code     string               `json:"code"`   // of refused; the reason of waiting
	Message  string               `json:"message"`
	elapsed  time.Duration
	err      error
}

// take is called for one request after the other, and must not hold up the next.
func (c *Cosigner) take(of settlement.Address, msg *nats.Msg) {
	r := cosignRequest{of: of, msg: msg, came: time.Now()}
	select {
	case c.queue <- r:
	default:
		c.conclude(r, judged{}, waits(settlement.NotReady, errors.New("too many requests at once")))
	}
}

func (c *Cosigner) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.queue:
			c.answer(ctx, r)
		}
	}
}

// answer takes no longer than the asking party waits: what is signed after that
// would be of no use, and keep others from being signed.
func (c *Cosigner) answer(ctx context.Context, r cosignRequest) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.came.Add(c.cfg.CosignTimeout))
	defer cancel()
	if ctx.Err() != nil {
		c.conclude(r, judged{}, waits(settlement.NotReady, errors.New("this waited too long for its turn")))
		return
	}
	j, err := c.judge(ctx, r.of, r.msg.Data)
	c.conclude(r, j, err)
}

// conclude answers, and tells of it once.
func (c *Cosigner) conclude(r cosignRequest, j judged, err error) {
	answer := answerOf(r.of, j, err)
	text, marshalErr := json.Marshal(answer)
	if marshalErr == nil && mayAnswer(r.msg.Reply) {
		marshalErr = r.msg.Respond(text)
	}
	a := Cosigned{
		Address: r.of.String(), Session: j.proposal.Session, Scenario: string(j.outcome.Scenario),
		Source: foreign(j.outcome.Ref.Source), ID: foreign(j.outcome.Ref.ID), Sequence: j.proposal.Outcome.Sequence,
		elapsed: time.Since(r.came), err: errors.Join(err, marshalErr),
	}
	switch {
	case answer.Refused != nil:
		a.Answer, a.Code, a.Message = "refused", string(answer.Refused.Code), answer.Refused.Message
	case answer.Waiting != nil:
		a.Answer, a.Code, a.Message = "waiting", string(answer.Waiting.Reason), answer.Waiting.Message
	default:
		a.Answer = "signed"
	}
	c.tell(a)
}

// mayAnswer: an answer goes to an inbox, or to what an account's import makes of
// one; all of them begin with an underscore. Whoever asks could name any other
// subject, and have us publish there what it may not.
func mayAnswer(reply string) bool { return strings.HasPrefix(reply, "_") }

func answerOf(of settlement.Address, j judged, err error) CosignAnswer {
	var never *settlement.Failure
	var later *settlement.Waiting
	switch {
	case err == nil:
		return CosignAnswer{Signature: hexutil.Encode(j.signature), Address: of.String()}
	case errors.As(err, &never):
		return CosignAnswer{Refused: settlement.Fail(never.Code, "%s", never.Message)}
	case errors.As(err, &later) && later.Err != nil:
		w := &CosignWaiting{Reason: later.Reason, Message: later.Err.Error()}
		if !later.Until.IsZero() {
			until := later.Until.UTC().Round(0)
			w.Until = &until
		}
		return CosignAnswer{Waiting: w}
	}
	return CosignAnswer{Waiting: &CosignWaiting{Reason: settlement.NotReady, Message: "I can't say now"}}
}

func (c *Cosigner) tell(a Cosigned) {
	c.metrics.Cosigns.WithLabelValues(a.Answer, a.Code).Inc()
	c.metrics.CosignSeconds.WithLabelValues(a.Answer).Observe(a.elapsed.Seconds())
	event := c.log.Info()
	if a.Answer == "refused" {
		event = c.log.Warn()
	}
	event.Str("answer", a.Answer).Str("code", a.Code).Str("address", a.Address).Str("session", a.Session.Token()).Str("scenario", a.Scenario).
		Str("source", a.Source).Str("id", a.ID).Uint64("sequence", a.Sequence).Dur("elapsed", a.elapsed).AnErr("error", a.err).Msg("a co-signature was asked for")
	if c.AnsweredFunc != nil {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.AnsweredFunc(a)
	}
}
