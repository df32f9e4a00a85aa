package main

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

// cosigners asks the other parties of a session for their signatures, by NATS.
type cosigners struct {
	nc     *nats.Conn
	prefix string
	log    zerolog.Logger
	asked  *prometheus.CounterVec // by result
	hold   *cosignHold
}

var _ clearnode.Cosigners = (*cosigners)(nil)

// maxAnswers to one request are read. Whoever may answer could go on for ever.
const maxAnswers = 64

// Cosign asks on the account's subject and takes the first signature that is the
// account's own over the very bytes. All else that comes, a refusal too, only
// counts once the time is up: of several that answer, one may be mistaken, and one
// forged.
func (c *cosigners) Cosign(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	if until := c.hold.check(p.Session, time.Now()); !until.IsZero() {
		c.asked.WithLabelValues("held").Inc()
		return nil, fmt.Errorf("not asked before %s, when what co-signers signed for this session has run out", until.UTC().Format(time.RFC3339))
	}
	signature, result, err := c.ask(ctx, of, p)
	c.hold.note(p.Session, err, time.Now())
	c.asked.WithLabelValues(result).Inc()
	c.log.Debug().Stringer("address", of).Str("session", p.Session.Token()).Uint64("sequence", p.Outcome.Sequence).
		Str("result", result).AnErr("error", err).Msg("a co-signature was asked for")
	return signature, err
}

func (c *cosigners) ask(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, string, error) {
	subject := cosignSubject(c.prefix, of)
	request, err := json.Marshal(p)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	inbox := c.nc.NewInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := c.nc.PublishRequest(subject, inbox, request); err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	var heard heard
	for range maxAnswers {
		msg, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return heard.conclude(subject, err)
		}
		signature, err := readCosignAnswer(msg.Data, of, p)
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
