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

// cosignQueue is how many requests may wait for a worker; more are answered as waiting.
const cosignQueue = 1024

// cosignRequest is one request as received.
type cosignRequest struct {
	of   settlement.Address
	msg  *nats.Msg
	came time.Time
}

// Result is the result of a request, for the log, the metrics and --output json. It has
// neither the bytes to sign nor a signature.
type Result struct {
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

// take is called for one request after the other and doesn't block.
func (c *Cosigner) enqueue(of settlement.Address, msg *nats.Msg) {
	r := cosignRequest{of: of, msg: msg, came: time.Now()}
	select {
	case c.queue <- r:
	default:
		c.respond(r, evaluation{}, waits(settlement.NotReady, errors.New("too many requests at once")))
	}
}

func (c *Cosigner) runWorker(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.queue:
			c.answer(ctx, r)
		}
	}
}

// answer answers a request within the time that the asking party waits: a later signature
// would be useless, and prevent others.
func (c *Cosigner) answer(ctx context.Context, r cosignRequest) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.came.Add(c.cfg.CosignTimeout))
	defer cancel()
	if ctx.Err() != nil {
		c.respond(r, evaluation{}, waits(settlement.NotReady, errors.New("this request waited too long in the queue")))
		return
	}
	j, err := c.evaluate(ctx, r.of, r.msg.Data)
	c.respond(r, j, err)
}

// respond sends the answer and reports it.
func (c *Cosigner) respond(r cosignRequest, j evaluation, err error) {
	answer := newAnswer(r.of, j, err)
	text, marshalErr := json.Marshal(answer)
	if marshalErr == nil && isInbox(r.msg.Reply) {
		marshalErr = r.msg.Respond(text)
	}
	a := Result{
		Address: r.of.String(), Session: j.proposal.Session, Scenario: string(j.outcome.Scenario),
		Source: sanitize(j.outcome.Ref.Source), ID: sanitize(j.outcome.Ref.ID), Sequence: j.proposal.Outcome.Sequence,
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
	c.report(a)
}

// isInbox reports whether an answer may be sent to a subject. Inboxes, also those mapped
// by an account's import, begin with an underscore. Otherwise the asking party could make
// us publish on any subject.
func isInbox(reply string) bool { return strings.HasPrefix(reply, "_") }

func newAnswer(of settlement.Address, j evaluation, err error) CosignAnswer {
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
	return CosignAnswer{Waiting: &CosignWaiting{Reason: settlement.NotReady, Message: "this can't be decided now"}}
}

func (c *Cosigner) report(a Result) {
	c.metrics.Cosigns.WithLabelValues(a.Answer, a.Code).Inc()
	c.metrics.CosignSeconds.WithLabelValues(a.Answer).Observe(a.elapsed.Seconds())
	event := c.log.Info()
	if a.Answer == "refused" {
		event = c.log.Warn()
	}
	event.Str("answer", a.Answer).Str("code", a.Code).Str("address", a.Address).Str("session", a.Session.Token()).Str("scenario", a.Scenario).
		Str("source", a.Source).Str("id", a.ID).Uint64("sequence", a.Sequence).Dur("elapsed", a.elapsed).AnErr("error", a.err).Msg("a co-signature was asked for")
	if c.AnsweredFunc != nil {
		c.answeredMu.Lock()
		defer c.answeredMu.Unlock()
		c.AnsweredFunc(a)
	}
}
