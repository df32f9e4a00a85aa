package cosigner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/settlement"
)

// Cosigners asks the other parties of a session for their signatures, by NATS.
type Cosigners struct {
	Nc     *nats.Conn
	Prefix string
	Log    zerolog.Logger
	Asked  *prometheus.CounterVec // by result
	Hold   *cosignHold
}

var _ clearnode.Cosigners = (*Cosigners)(nil)

// maxAnswers to one request are read. Whoever may answer could go on for ever.
const maxAnswers = 64

// Cosign asks on the account's subject and takes the first signature that is the
// account's own over the very bytes. All else that comes, a refusal too, only
// counts once the time is up: of several that answer, one may be mistaken, and one
// forged.
func (c *Cosigners) Cosign(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	if until := c.Hold.check(p.Session, time.Now()); !until.IsZero() {
		c.Asked.WithLabelValues("held").Inc()
		return nil, fmt.Errorf("not asked before %s, when what co-signers signed for this session has run out", until.UTC().Format(time.RFC3339))
	}
	signature, result, err := c.ask(ctx, of, p)
	c.Hold.note(p.Session, err, time.Now())
	c.Asked.WithLabelValues(result).Inc()
	c.Log.Debug().Stringer("address", of).Str("session", p.Session.Token()).Uint64("sequence", p.Outcome.Sequence).
		Str("result", result).AnErr("error", err).Msg("a co-signature was asked for")
	return signature, err
}

func (c *Cosigners) ask(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, string, error) {
	subject := Subject(c.Prefix, of)
	request, err := json.Marshal(p)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	inbox := c.Nc.NewInbox()
	answers, err := c.Nc.SubscribeSync(inbox)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := c.Nc.PublishRequest(subject, inbox, request); err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	var heard heard
	for range maxAnswers {
		msg, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return heard.conclude(subject, err)
		}
		signature, err := ReadCosignAnswer(msg.Data, of, p)
		if err == nil {
			return signature, "signed", nil
		}
		heard.add(err)
	}
	return heard.conclude(subject, fmt.Errorf("%d answers, and none with a signature that can be used", maxAnswers))
}

// heard is what was answered instead of a signature.
type heard struct {
	refused        *settlement.Failure
	waits, useless error
}

func (h *heard) add(err error) {
	var refused *settlement.Failure
	var later *cosignerWaits
	switch {
	case errors.As(err, &refused):
		h.refused = refused
	case errors.As(err, &later):
		h.waits = err
	default:
		h.useless = err
	}
}

// conclude: where one instance waits another one's refusal is not the last word.
func (h *heard) conclude(subject string, end error) ([]byte, string, error) {
	switch {
	case h.waits != nil:
		return nil, "waiting", h.waits
	case h.refused != nil:
		return nil, "refused", h.refused
	case h.useless != nil:
		return nil, "useless", h.useless
	case errors.Is(end, nats.ErrNoResponders):
		return nil, "away", fmt.Errorf("%w: on %s; is `settled cosign` running there, and are the two NATS accounts connected?", clearnode.ErrNobodyListens, subject)
	case errors.Is(end, context.DeadlineExceeded):
		return nil, "away", fmt.Errorf("%w: on %s, within cosign.timeout", clearnode.ErrTimedOut, subject)
	case errors.Is(end, context.Canceled):
		return nil, "not needed", end
	}
	return nil, "away", fmt.Errorf("ask on %s: %w", subject, end)
}
