package clearnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Cosigners reaches the other parties of a session.
type Cosigners interface {
	// Cosign asks whoever holds an account's key to sign a proposal. A *settlement.Failure
	// inside the error is a reasoned refusal. Any other error: nobody answered
	// (ErrNobodyListens or ErrTimedOut inside), or nothing that can be used. It returns
	// when the context ends, which it does as soon as enough others have signed.
	Cosign(ctx context.Context, of settlement.Address, p Proposal) (signature []byte, err error)
}

// Cosigners.Cosign returns one of these inside its error where an account gave no answer.
// Every other error, except the end of its context, counts as an answer.
var (
	ErrNobodyListens = errors.New("nobody listens there")
	ErrTimedOut      = errors.New("no answer in time")
)

// Proposal is what a co-signer is asked to sign. It proves nothing: a co-signer reads the
// outcome and the session itself, and signs only what it would have done.
type Proposal struct {
	Protocol    string                  `json:"protocol"`
	Session     settlement.SessionID    `json:"session_id"`
	Outcome     settlement.OutcomeRef   `json:"outcome"` // as stored: stream, sequence, digest
	Policy      settlement.PolicyRef    `json:"policy"`
	Allocations []settlement.Allocation `json:"allocations"`
	BaseVersion uint64                  `json:"base_version,omitempty"`
	Payload     []byte                  `json:"payload"` // base64: the exact bytes to sign
}

// SignedBy is nil where a signature over the proposal's payload is an account's, in the
// scheme of the proposal's protocol.
func (p Proposal) SignedBy(account settlement.Address, signature []byte) error {
	var scheme protocol.Scheme
	switch generationOf(p.Protocol) {
	case nitrorpc.Protocol04, legacy.Protocol:
		scheme = protocol.Plain
	case nitronode.Protocol:
		scheme = nitronode.Scheme
	default:
		return fmt.Errorf("protocol %s: how its payloads are signed is not known here", protocol.Quote(p.Protocol))
	}
	_, err := scheme.Verify(account, p.Payload, signature)
	return err
}

// askCosigners asks all whose signature is missing, concurrently and each once, and adds
// their signatures until the quorum is reached, or can't be any more. It returns when all
// calls have returned.
func (c *Client) askCosigners(ctx context.Context, p Proposal, q *quorum) error {
	if c.cfg.Cosigners == nil || len(q.missing) == 0 {
		return settlement.Fail(settlement.QuorumNotReached, "the signatures at hand have a weight of %d, the session's quorum is %d, and no co-signers are asked (cosign.enabled); missing: %s", q.weight, q.want, formatWeights(q.missing))
	}
	timeout := c.cfg.CosignTimeout
	if p.Protocol != nitronode.Protocol {
		timeout = min(timeout, c.cfg.RequestValidity/2)
	}
	asking, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	asked := slices.SortedFunc(maps.Keys(q.missing), func(a, b settlement.Address) int { return bytes.Compare(a[:], b[:]) })
	replies := make(chan cosignReply, len(asked))
	for _, account := range asked {
		go func() {
			sig, err := c.cfg.Cosigners.Cosign(asking, account, p)
			replies <- cosignReply{account, sig, err}
		}()
	}
	var t cosignTally
	for range asked {
		r := <-replies
		t.count(q, r)
		if asking.Err() == nil || !errors.Is(r.err, context.Canceled) {
			if silence := c.silences.record(r.account, p.Outcome, r.err, time.Now()); silence != nil {
				// An account that has not answered for too long counts like one that refuses.
				t.refused = append(t.refused, r.account)
				t.refusals = append(t.refusals, silence.Error())
			}
		}
		if q.reached() || !q.reachable(t.refused) {
			stop()
		}
	}
	switch {
	case q.reached():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !q.reachable(t.refused):
		return settlement.Fail(settlement.QuorumNotReached, "the signatures have a weight of %d and the session's quorum is %d: %s; missing: %s", q.weight, q.want, formatSome(t.refusals), formatWeights(q.missing))
	}
	// An account that gave no answer, or a useless one, may give a better one next time.
	return &settlement.Waiting{Reason: settlement.CosignersUnavailable, Err: fmt.Errorf("the signatures have a weight of %d and the session's quorum is %d: %s", q.weight, q.want, formatSome(append(t.absences, t.refusals...)))}
}

// cosignReply is the result of asking one co-signer.
type cosignReply struct {
	account   settlement.Address
	signature []byte
	err       error
}

// cosignTally is why signatures are missing.
type cosignTally struct {
	refused  []settlement.Address
	refusals []string
	absences []string
}

// count adds a signature of the account that was asked, and of no other. One that comes
// when the quorum is reached is not used.
func (t *cosignTally) count(q *quorum, r cosignReply) {
	if r.err == nil && !q.reached() {
		bare, err := q.scheme.Verify(r.account, q.payload, r.signature)
		if err != nil {
			r.err = fmt.Errorf("the answer is not used: %w", err)
		} else {
			r.err = q.add(r.account, bare)
		}
	}
	var f *settlement.Failure
	switch {
	case r.err == nil:
	case errors.As(r.err, &f):
		t.refused = append(t.refused, r.account)
		t.refusals = append(t.refusals, fmt.Sprintf("%s refuses: %s", r.account, protocol.Quote(f.Error())))
	case errors.Is(r.err, context.DeadlineExceeded), errors.Is(r.err, ErrTimedOut):
		t.absences = append(t.absences, fmt.Sprintf("%s did not answer in time", r.account))
	default:
		t.absences = append(t.absences, fmt.Sprintf("%s: %s", r.account, protocol.Quote(r.err.Error())))
	}
}

// formatSome joins a list and cuts it after ten.
func formatSome(texts []string) string {
	const most = 10
	if len(texts) > most {
		texts = append(texts[:most:most], fmt.Sprintf("and %d more", len(texts)-most))
	}
	return strings.Join(texts, "; ")
}

// silences record since when accounts have given no answer, for each outcome that asked
// them. A restart, or another replica, begins each period again, so that no outcome fails for
// a time in which nobody asked.
type silences struct {
	patience, timeout time.Duration

	mu       sync.Mutex
	since    map[silenceKey]time.Time
	answered map[settlement.Address]time.Time
}

type silenceKey struct {
	account settlement.Address
	outcome settlement.OutcomeRef
}

// record records the result of asking an account. An error says that the account is given
// up: it has answered nobody for the patience, and for as long as this outcome has asked it.
func (s *silences) record(account settlement.Address, o settlement.OutcomeRef, err error, now time.Time) error {
	const (
		// minTimeouts is for how many timeouts an account that listens must have given no
		// answer before it is given up: one slow answer is no silence.
		minTimeouts = 10
		maxSilences = 100_000 // that are remembered
	)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since, s.answered = map[silenceKey]time.Time{}, map[settlement.Address]time.Time{}
	}
	key, patience := silenceKey{account, o}, s.patience
	switch {
	case errors.Is(err, ErrNobodyListens):
	case errors.Is(err, ErrTimedOut):
		patience = max(patience, minTimeouts*s.timeout)
	case errors.Is(err, context.DeadlineExceeded):
		return nil // says nothing about the account
	default:
		s.answered[account] = now
		delete(s.since, key)
		return nil
	}
	since, known := s.since[key]
	if last, answered := s.answered[account]; !known || answered && last.After(since) {
		if len(s.since) >= maxSilences {
			clear(s.since)
		}
		since = now
		s.since[key] = since
	}
	if now.Sub(since) < patience {
		return nil
	}
	return fmt.Errorf("%s has not answered for %s (cosign.patience %s)", account, now.Sub(since).Round(time.Second), s.patience)
}

// Countersign signs another party's proposal with our key of an account, where its payload is
// exactly the request that settles the session as the proposal says. Whether that is what the
// outcome is due must have been decided before (settlement.CheckProposal); s is the session
// as we see it. It returns until when the signed request may take effect: the caller signs no other
// for this session before that. Zero: nothing expires it, the session's version fences it.
//
// A *settlement.Failure is a refusal for good. *settlement.Waiting: not now, because the node
// isn't there, the key doesn't answer, or the request's time is not one that we would have
// given it.
func (c *Client) Countersign(ctx context.Context, account settlement.Address, p Proposal, o settlement.Outcome, s settlement.Session) (signature []byte, until time.Time, err error) {
	key, d := c.signer(account), c.currentDialect()
	if key == nil {
		return nil, until, settlement.Fail(settlement.Unauthorized, "%s is no key of ours", account)
	}
	if err := c.Ready(); err != nil || d == nil {
		return nil, until, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	if p.Session != s.ID || p.Session != o.Session {
		return nil, until, settlement.Fail(settlement.AllocationRejected, "the proposal is for session %s, the outcome for %s", p.Session, o.Session)
	}
	plan := settlement.Plan{Session: p.Session, BaseVersion: p.BaseVersion, Allocations: p.Allocations}
	scheme, until, err := d.CheckProposal(p.Payload, plan, o, s)
	if err != nil {
		return nil, time.Time{}, err
	}
	if weightsOf(s, scheme.Checksummed)[account] == 0 {
		return nil, time.Time{}, settlement.Fail(settlement.NotAParticipant, "a signature of %s counts nothing in the session", account)
	}
	signature, err = c.sign(ctx, key, scheme, p.Payload)
	if err != nil {
		return nil, time.Time{}, err
	}
	return signature, until, nil
}
