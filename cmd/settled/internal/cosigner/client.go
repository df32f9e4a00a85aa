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

// Client asks other parties of a session for their signatures over NATS.
type Client struct {
	NC     *nats.Conn
	Prefix string
	Log    zerolog.Logger
	Asked  *prometheus.CounterVec // by result
	Hold   *cosignHold
}

var _ clearnode.Cosigners = (*Client)(nil)

// maxAnswers bounds the answers to one request that are read.
const maxAnswers = 64

// Cosign asks on the account's subject and returns the first valid signature of the account
// over the payload. Other answers, refusals included, count only after the timeout: of
// several answers one may be wrong, and one forged.
func (c *Client) Cosign(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, error) {
	if until := c.Hold.check(p.Session, time.Now()); !until.IsZero() {
		c.Asked.WithLabelValues("held").Inc()
		return nil, fmt.Errorf("not asked before %s, when what co-signers signed for this session has expired", until.UTC().Format(time.RFC3339))
	}
	signature, result, err := c.ask(ctx, of, p)
	c.Hold.note(p.Session, err, time.Now())
	c.Asked.WithLabelValues(result).Inc()
	c.Log.Debug().Stringer("address", of).Str("session", p.Session.Token()).Uint64("sequence", p.Outcome.Sequence).
		Str("result", result).AnErr("error", err).Msg("a co-signature was asked for")
	return signature, err
}

func (c *Client) ask(ctx context.Context, of settlement.Address, p clearnode.Proposal) ([]byte, string, error) {
	subject := Subject(c.Prefix, of)
	request, err := json.Marshal(p)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	inbox := c.NC.NewInbox()
	answers, err := c.NC.SubscribeSync(inbox)
	if err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := c.NC.PublishRequest(subject, inbox, request); err != nil {
		return nil, "away", fmt.Errorf("ask on %s: %w", subject, err)
	}
	var heard responses
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

// responses are the answers without a signature.
type responses struct {
	refused        *settlement.Failure
	waits, useless error
}

func (h *responses) add(err error) {
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

// respond: where one instance waits another one's refusal is not the last word.
func (h *responses) conclude(subject string, end error) ([]byte, string, error) {
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
