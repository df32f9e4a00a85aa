package clearnodetest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	v1Participants = 32
	v1DataBytes    = 1024
)

var v1Application = regexp.MustCompile(`^[a-z0-9_-]{1,66}$`)

// zeroByte is what the database says of a text that it can't keep.
const zeroByte = `ERROR: invalid byte sequence for encoding "UTF8": 0x00 (SQLSTATE 22021)`

func unstorable(text string) bool { return strings.Contains(text, "\x00") }

// v1Definition is what a session is, on the wire.
type v1Definition struct {
	Application  string          `json:"application_id"`
	Participants []v1Participant `json:"participants"`
	Quorum       uint8           `json:"quorum"`
	Nonce        string          `json:"nonce"`
}

type v1Participant struct {
	Wallet string `json:"wallet_address"`
	Weight uint8  `json:"signature_weight"`
}

// v1Creation is a create_app_session.
type v1Creation struct {
	Definition v1Definition `json:"definition"`
	Data       string       `json:"session_data"`
	Sigs       []string     `json:"quorum_sigs"`
}

func v1Create(n *Node, _ *conn, r *request) (any, error) {
	var p v1Creation
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.createV1(p, true)
	if err != nil {
		return nil, err
	}
	return struct {
		ID      string `json:"app_session_id"`
		Status  string `json:"status"`
		Version string `json:"version"`
	}{s.id, s.status, "1"}, nil
}

// createV1 opens a session, empty. Nobody needs to sign where it isn't asked for.
func (n *Node) createV1(p v1Creation, signed bool) (*session, error) {
	if err := p.fits(); err != nil {
		return nil, err
	}
	def, err := p.Definition.read()
	if err != nil {
		return nil, err
	}
	now := n.cfg.Now()
	s := &session{id: def.idV1(), def: def, status: "open", version: 1, data: p.Data, created: now, updated: now}
	state := v1State{version: 1, intent: "create", free: !signed}
	if signed {
		if state.signed, err = n.signedCreation(s, p); err != nil {
			return nil, err
		}
	}
	if unstorable(p.Data) {
		return nil, refusal("failed to create app session: failed to create app session: " + zeroByte)
	}
	if n.sessions.byID[s.id] != nil {
		return nil, refusal("failed to create app session: failed to create app session: " +
			`ERROR: duplicate key value violates unique constraint "app_sessions_v1_pkey" (SQLSTATE 23505)`)
	}
	s.states = []v1State{state}
	n.sessions.add(s)
	for _, wallet := range def.Participants {
		n.seeV1(wallet)
	}
	return s, nil
}

func (n *Node) signedCreation(s *session, p v1Creation) ([]string, error) {
	switch {
	case len(p.Sigs) == 0:
		return nil, refusal("no signatures provided")
	case n.down:
		return nil, refusal("failed to create app session")
	}
	return n.quorumV1(s, crypto.Keccak256(abiTuple(append(s.def.packV1(), abiText(p.Data))...)), p.Sigs)
}

// fits tells whether the request is of a size and shape that the node looks into.
func (p v1Creation) fits() error {
	d := p.Definition
	switch {
	case len(d.Participants) > v1Participants:
		return refusal(fmt.Sprintf("participants array exceeds maximum length of %d", v1Participants))
	case len(p.Sigs) > len(d.Participants):
		return refusal(fmt.Sprintf("quorum_sigs count (%d) exceeds participants count (%d)", len(p.Sigs), len(d.Participants)))
	case len(p.Data) > v1DataBytes:
		return refusal(fmt.Sprintf("session_data exceeds maximum length of %d", v1DataBytes))
	case d.Application == "":
		return refusal("application id is required")
	case !v1Application.MatchString(d.Application):
		return refusal("invalid application id: must match " + v1Application.String())
	}
	return nil
}

// read checks a definition. Participants are in EIP-55 from here on, whatever the wire spells.
func (d v1Definition) read() (Definition, error) {
	nonce, err := strconv.ParseUint(d.Nonce, 10, 64)
	switch {
	case err != nil:
		return Definition{}, refusal("invalid app definition")
	case nonce == 0:
		return Definition{}, refusal("nonce must be non-zero")
	case d.Quorum == 0:
		return Definition{}, refusal("quorum must be greater than zero")
	}
	def := Definition{Application: d.Application, Quorum: uint64(d.Quorum), Nonce: nonce}
	var total uint64
	for _, p := range d.Participants {
		wallet, err := walletV1(p.Wallet)
		if err != nil {
			return Definition{}, refusal(fmt.Sprintf("invalid participant wallet_address %q: %v", p.Wallet, err))
		}
		if contains(def.Participants, wallet) {
			return Definition{}, refusal("duplicate participant address: " + p.Wallet)
		}
		def.Participants, def.Weights = append(def.Participants, wallet), append(def.Weights, int64(p.Weight))
		total += uint64(p.Weight)
	}
	if def.Quorum > total {
		return Definition{}, refusal(fmt.Sprintf("target quorum (%d) cannot be greater than total sum of weights (%d)", def.Quorum, total))
	}
	return def, nil
}

var hexAddress = regexp.MustCompile(`^0x[0-9a-f]{40}$`)

// walletV1 reads an address in any case and spells it in EIP-55.
func walletV1(text string) (string, error) {
	low := strings.ToLower(text)
	if !strings.HasPrefix(low, "0x") || len(low) != 42 {
		return "", errors.New("invalid hex address: incorrect length, expected 42 characters including 0x prefix")
	}
	if !hexAddress.MatchString(low) {
		at := 2 + strings.IndexFunc(low[2:], func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) })
		return "", fmt.Errorf("invalid hex address: character '%c' at position %d is not a valid hexadecimal character", low[at], at)
	}
	return common.HexToAddress(low).Hex(), nil
}

func (d Definition) packV1() []abiValue {
	participants := make([]abiValue, len(d.Participants))
	for i, p := range d.Participants {
		participants[i] = abiValue{bytes: abiTuple(abiAddress(p), abiNumber(uint64(d.Weights[i])))}
	}
	return []abiValue{abiText(d.Application), abiArray(participants...), abiNumber(d.Quorum), abiNumber(d.Nonce)}
}

// idV1 is a session's id: the Keccak-256 of the ABI encoding of its definition.
func (d Definition) idV1() string { return crypto.Keccak256Hash(abiTuple(d.packV1()...)).Hex() }

// onWire is a definition as the node tells it: in lower case, and not in the order in which it was defined where byAddress.
func (d Definition) onWire(byAddress bool) *v1Definition {
	w := &v1Definition{
		Application: d.Application, Participants: []v1Participant{}, Quorum: uint8(d.Quorum), Nonce: strconv.FormatUint(d.Nonce, 10),
	}
	for i, p := range d.Participants {
		w.Participants = append(w.Participants, v1Participant{strings.ToLower(p), uint8(d.Weights[i])})
	}
	if byAddress {
		slices.SortFunc(w.Participants, func(a, b v1Participant) int { return strings.Compare(a.Wallet, b.Wallet) })
	}
	return w
}
