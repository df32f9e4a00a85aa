package clearnode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// maySign says why no request of ours can ever reach a session's quorum, as far as
// that is known before anybody is asked. Given are the signatures that came with
// the outcome.
func (c *Client) maySign(s settlement.Session, given []string) *settlement.Failure {
	weights := weightsOf(s, false)
	var all, ours int64
	participant := false
	for of, weight := range weights {
		all += weight
		if c.signer(of) != nil {
			participant, ours = true, ours+weight
		}
	}
	switch {
	case !participant:
		return settlement.Fail(settlement.NotAParticipant, "%s no participant of the session", c.keysAre())
	case all < s.Quorum:
		return settlement.Fail(settlement.QuorumNotReached, "all participants together have a weight of %d, and the session's quorum is %d", all, s.Quorum)
	case ours < s.Quorum && c.cfg.Cosigners == nil && len(given) == 0:
		return settlement.Fail(settlement.QuorumNotReached, "our keys have a weight of %d, the session's quorum is %d, and no co-signers are asked (cosign.enabled); missing: %s", ours, s.Quorum, c.others(weights))
	}
	return nil
}

func (c *Client) keysAre() string {
	if len(c.cfg.Signers) == 1 {
		return fmt.Sprintf("our key %s is", c.own())
	}
	return fmt.Sprintf("none of our %d keys is", len(c.cfg.Signers))
}

// signer is our key of an account; nil where it isn't ours, or signs nothing.
func (c *Client) signer(a settlement.Address) Signer {
	c.mu.Lock()
	left := c.left[a]
	c.mu.Unlock()
	if left {
		return nil
	}
	for _, s := range c.cfg.Signers {
		if s.Address() == a {
			return s
		}
	}
	return nil
}

// needed reports whether nobody reaches the session's quorum without us. Of who is
// listed twice every weight counts: the answer must not be yes too early.
func (c *Client) needed(s settlement.Session) bool {
	var others int64
	for _, p := range s.Participants {
		if c.signer(p.Address) == nil {
			others += max(p.Weight, 0)
		}
	}
	return others < s.Quorum
}

// weightsOf is what each participant's signature counts; of one who is listed
// twice, what the last line says, as the nodes count it (source). Spelled: only
// those whose address stands there in its usual spelling, for the others' signatures
// the node takes for a stranger's.
func weightsOf(s settlement.Session, spelled bool) map[settlement.Address]int64 {
	weights := map[settlement.Address]int64{}
	for _, p := range s.Participants {
		if !spelled || p.Spelling == p.Address.String() {
			weights[p.Address] = max(p.Weight, 0)
		}
	}
	return weights
}

// quorum is a session's quorum in the making.
type quorum struct {
	want       int64
	weight     int64
	signatures []string
	payload    []byte
	scheme     scheme
	missing    map[settlement.Address]int64 // who could still sign, and what it counts
}

func newQuorum(s settlement.Session, payload []byte, h scheme) *quorum {
	q := &quorum{want: s.Quorum, payload: payload, scheme: h, missing: weightsOf(s, h.spelled)}
	for of, weight := range q.missing {
		if weight == 0 {
			delete(q.missing, of)
		}
	}
	return q
}

// lacking names whose signatures are missing.
func (q *quorum) lacking() string { return listWeights(q.missing) }

// others names the participants that are not ours.
func (c *Client) others(weights map[settlement.Address]int64) string {
	weights = maps.Clone(weights)
	maps.DeleteFunc(weights, func(of settlement.Address, _ int64) bool { return c.signer(of) != nil })
	return listWeights(weights)
}

// listWeights names accounts that have a weight, the heaviest first.
func listWeights(weights map[settlement.Address]int64) string {
	var all []settlement.Address
	for of, weight := range weights {
		if weight > 0 {
			all = append(all, of)
		}
	}
	slices.SortFunc(all, func(a, b settlement.Address) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), bytes.Compare(a[:], b[:]))
	})
	texts := make([]string, len(all))
	for i, of := range all {
		texts[i] = fmt.Sprintf("%s (weight %d)", of, weights[of])
	}
	return someOf(texts)
}

func (q *quorum) reached() bool { return q.weight >= q.want && len(q.signatures) > 0 }

// possible reports whether it can still be reached without some of those who are
// missing.
func (q *quorum) possible(without []settlement.Address) bool {
	weight, n := q.weight, len(q.signatures)
	for of, more := range q.missing {
		if !slices.Contains(without, of) {
			weight, n = weight+more, n+1
		}
	}
	return weight >= q.want && n > 0
}

// take adds a signature, where it is one of somebody whose is missing. It is
// written anew, so that nothing foreign but its 65 bytes gets into the request.
func (q *quorum) take(signature []byte) error {
	signer, bare, err := q.scheme.recover(q.payload, signature)
	if err != nil {
		return err
	}
	return q.add(signer, bare)
}

// add is take, of one that was looked at already.
func (q *quorum) add(signer settlement.Address, bare [crypto.SignatureLength]byte) error {
	weight, missing := q.missing[signer]
	if !missing {
		return fmt.Errorf("signature: of %s, whose is not wanted", signer)
	}
	delete(q.missing, signer)
	q.weight += weight
	q.signatures = append(q.signatures, hexutil.Encode(slices.Concat(q.scheme.prefix, bare[:])))
	return nil
}

// gather collects the signatures that a payload needs: of the fewest of our keys
// that reach the quorum; where they don't reach it, of all our keys that have a
// weight, then those that came with the outcome (given), then of co-signers. A key
// that is no participant, or has no weight, never signs: one foreign signature
// spoils the request. In which order they stand is nothing to the nodes.
func (c *Client) gather(ctx context.Context, p Proposal, s settlement.Session, h scheme, given []string) ([]string, error) {
	q := newQuorum(s, p.Payload, h)
	if !q.possible(nil) {
		return nil, settlement.Fail(settlement.QuorumNotReached, "all participants whose signatures the node counts are too few for the session's quorum of %d", s.Quorum)
	}
	for _, own := range c.heaviest(q.missing) {
		if q.reached() {
			break
		}
		sig, err := c.sign(ctx, own, h, p.Payload)
		if err != nil {
			return nil, err
		}
		if err := q.take(sig); err != nil {
			return nil, err
		}
	}
	for _, text := range given {
		if sig, err := parseSignature(text); err == nil && !q.reached() {
			_ = q.take(sig) // else of another state of the session, most likely
		}
	}
	if q.reached() {
		return q.signatures, nil
	}
	if err := c.cosigned(ctx, p, q); err != nil {
		return nil, err
	}
	return q.signatures, nil
}

// heaviest are our keys among those of a weight, heaviest first: taken in this
// order they reach a quorum with the fewest.
func (c *Client) heaviest(weights map[settlement.Address]int64) []Signer {
	var own []Signer
	for _, k := range c.cfg.Signers {
		if weights[k.Address()] > 0 {
			own = append(own, k)
		}
	}
	slices.SortStableFunc(own, func(a, b Signer) int { return cmp.Compare(weights[b.Address()], weights[a.Address()]) })
	return own
}

// sign signs a payload with a key of ours, which may be far away: in as much time
// as the node has for an answer. A key that can't sign now may be able to later.
func (c *Client) sign(ctx context.Context, s Signer, h scheme, payload []byte) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	sig, err := h.signed(limited, s, payload)
	switch {
	case err == nil:
		return sig, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
}

// parseSignature reads hex, with or without 0x.
func parseSignature(text string) ([]byte, error) {
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		text = "0x" + text
	}
	sig, err := hexutil.Decode(text)
	if err != nil {
		return nil, errors.New("signature: no hex")
	}
	return sig, nil
}
