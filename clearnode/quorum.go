package clearnode

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// checkQuorum says why no request of ours can ever reach a session's quorum, as far as that
// is known before any co-signer is asked. given are the signatures that came with the
// outcome.
func (c *Client) checkQuorum(s settlement.Session, given []string) *settlement.Failure {
	weights := weightsOf(s, false)
	var all, ours int64
	participant := false
	for of, weight := range weights {
		all += weight
		if c.signer(of) != nil {
			participant, ours = true, ours+weight
		}
	}
	others := maps.Clone(weights)
	maps.DeleteFunc(others, func(of settlement.Address, _ int64) bool { return c.signer(of) != nil })
	switch {
	case !participant:
		return settlement.Fail(settlement.NotAParticipant, "%s no participant of the session", c.keysAre())
	case all < s.Quorum:
		return settlement.Fail(settlement.QuorumNotReached, "all participants together have a weight of %d, and the session's quorum is %d", all, s.Quorum)
	case ours < s.Quorum && c.cfg.Cosigners == nil && len(given) == 0:
		return settlement.Fail(settlement.QuorumNotReached, "our keys have a weight of %d, the session's quorum is %d, and no co-signers are asked (cosign.enabled); missing: %s", ours, s.Quorum, formatWeights(others))
	}
	return nil
}

func (c *Client) keysAre() string {
	if len(c.cfg.Signers) == 1 {
		return fmt.Sprintf("our key %s is", c.account())
	}
	return fmt.Sprintf("none of our %d keys is", len(c.cfg.Signers))
}

// signer is our key of an account; nil where it isn't ours, or is disabled.
func (c *Client) signer(a settlement.Address) Signer {
	c.mu.Lock()
	disabled := c.disabledKeys[a]
	c.mu.Unlock()
	if disabled {
		return nil
	}
	for _, s := range c.cfg.Signers {
		if s.Address() == a {
			return s
		}
	}
	return nil
}

// isNeeded reports whether the others can't reach the session's quorum without us. Every
// weight of a participant that is listed twice counts: the answer must not be true too
// easily.
func (c *Client) isNeeded(s settlement.Session) bool {
	var others int64
	for _, p := range s.Participants {
		if c.signer(p.Address) == nil {
			others += max(p.Weight, 0)
		}
	}
	return others < s.Quorum
}

// weightsOf is the weight of each participant's signature; of one that is listed twice, that
// of the last row, as the nodes count it (source). checksummed: only those whose address is
// listed in EIP-55, because the node takes the others' signatures for a stranger's.
func weightsOf(s settlement.Session, checksummed bool) map[settlement.Address]int64 {
	weights := map[settlement.Address]int64{}
	for _, p := range s.Participants {
		if !checksummed || p.Spelling == p.Address.String() {
			weights[p.Address] = max(p.Weight, 0)
		}
	}
	return weights
}

// quorum collects signatures until they reach a session's quorum.
type quorum struct {
	want       int64
	weight     int64
	signatures []string
	payload    []byte
	scheme     protocol.Scheme
	missing    map[settlement.Address]int64 // the weights of those that could still sign
}

func newQuorum(s settlement.Session, payload []byte, h protocol.Scheme) *quorum {
	q := &quorum{want: s.Quorum, payload: payload, scheme: h, missing: weightsOf(s, h.Checksummed)}
	for of, weight := range q.missing {
		if weight == 0 {
			delete(q.missing, of)
		}
	}
	return q
}

// formatWeights names accounts that have a weight, the heaviest first.
func formatWeights(weights map[settlement.Address]int64) string {
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
	return formatSome(texts)
}

func (q *quorum) reached() bool { return q.weight >= q.want && len(q.signatures) > 0 }

// reachable reports whether the quorum can still be reached without some of those whose
// signatures are missing.
func (q *quorum) reachable(without []settlement.Address) bool {
	weight, n := q.weight, len(q.signatures)
	for of, more := range q.missing {
		if !slices.Contains(without, of) {
			weight, n = weight+more, n+1
		}
	}
	return weight >= q.want && n > 0
}

// addSignature adds a signature that is missing. It is encoded again, so that nothing
// foreign except its 65 bytes gets into the request.
func (q *quorum) addSignature(signature []byte) error {
	signer, bare, err := q.scheme.Recover(q.payload, signature)
	if err != nil {
		return err
	}
	return q.add(signer, bare)
}

// add is addSignature for one that was verified already.
func (q *quorum) add(signer settlement.Address, bare [crypto.SignatureLength]byte) error {
	weight, missing := q.missing[signer]
	if !missing {
		return fmt.Errorf("signature: of %s, whose is not wanted", signer)
	}
	delete(q.missing, signer)
	q.weight += weight
	q.signatures = append(q.signatures, hexutil.Encode(slices.Concat(q.scheme.Prefix, bare[:])))
	return nil
}

// collectSignatures collects the signatures that a payload needs: of the fewest of our keys
// that reach the quorum; where they don't reach it, of all our keys that have a weight, then
// those that came with the outcome (given), then of co-signers. A key that is no
// participant, or has no weight, never signs, because one foreign signature makes the node
// refuse the request. The nodes accept signatures in any order.
func (c *Client) collectSignatures(ctx context.Context, p Proposal, s settlement.Session, h protocol.Scheme, given []string) ([]string, error) {
	q := newQuorum(s, p.Payload, h)
	if !q.reachable(nil) {
		return nil, settlement.Fail(settlement.QuorumNotReached, "all participants whose signatures the node counts are too few for the session's quorum of %d", s.Quorum)
	}
	for _, own := range c.keysByWeight(q.missing) {
		if q.reached() {
			break
		}
		sig, err := c.sign(ctx, own, h, p.Payload)
		if err != nil {
			return nil, err
		}
		bare, err := h.Bare(sig)
		if err == nil {
			err = q.add(own.Address(), bare) // sign has verified whose it is
		}
		if err != nil {
			return nil, err
		}
	}
	for _, text := range given {
		if sig, err := parseSignature(text); err == nil && !q.reached() {
			_ = q.addSignature(sig) // a useless one is most likely of another state of the session
		}
	}
	if q.reached() {
		return q.signatures, nil
	}
	if err := c.askCosigners(ctx, p, q); err != nil {
		return nil, err
	}
	return q.signatures, nil
}

// keysByWeight are our keys that have a weight, the heaviest first: in this order the fewest
// reach a quorum.
func (c *Client) keysByWeight(weights map[settlement.Address]int64) []Signer {
	var own []Signer
	for _, k := range c.cfg.Signers {
		if weights[k.Address()] > 0 {
			own = append(own, k)
		}
	}
	slices.SortStableFunc(own, func(a, b Signer) int { return cmp.Compare(weights[b.Address()], weights[a.Address()]) })
	return own
}

// sign signs a payload with a key of ours, which may be remote, within the time that the
// node has for an answer, and verifies that the signature is the key's. A key that can't sign now may be able to later.
func (c *Client) sign(ctx context.Context, s protocol.Signer, h protocol.Scheme, payload []byte) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	sig, err := h.Sign(limited, s, payload)
	switch {
	case err == nil:
		return sig, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
}
