package nitronode

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

const (
	maxParticipants = 32
	maxDataBytes    = 1024
)

var applicationID = regexp.MustCompile(`^[a-z0-9_-]{1,66}$`)

// zeroByteError is the database's error for a text that it can't store.
const zeroByteError = `ERROR: invalid byte sequence for encoding "UTF8": 0x00 (SQLSTATE 22021)`

func hasZeroByte(text string) bool { return strings.Contains(text, "\x00") }

// definition is a session's definition on the wire.
type definition struct {
	Application  string        `json:"application_id"`
	Participants []participant `json:"participants"`
	Quorum       uint8         `json:"quorum"`
	Nonce        string        `json:"nonce"`
}

type participant struct {
	Wallet string `json:"wallet_address"`
	Weight uint8  `json:"signature_weight"`
}

// wireDefinition is a definition as the node reports it: addresses in lower case, and if byAddress, ordered by address.
func wireDefinition(d server.Definition, byAddress bool) *definition {
	w := &definition{
		Application: d.Application, Participants: []participant{}, Quorum: uint8(d.Quorum), Nonce: formatNumber(d.Nonce),
	}
	for i, p := range d.Participants {
		w.Participants = append(w.Participants, participant{strings.ToLower(p), uint8(d.Weights[i])})
	}
	if byAddress {
		slices.SortFunc(w.Participants, func(a, b participant) int { return strings.Compare(a.Wallet, b.Wallet) })
	}
	return w
}

// creation are the params of create_app_session.
type creation struct {
	Definition definition `json:"definition"`
	Data       string     `json:"session_data"`
	Sigs       []string   `json:"quorum_sigs"`
}

func (n *Node) createAppSession(p creation) (any, error) {
	s, err := n.newSession(p)
	if err != nil {
		return nil, err
	}
	switch {
	case len(p.Sigs) == 0:
		return nil, errors.New("no signatures provided")
	case n.Outage:
		return nil, errors.New("failed to create app session")
	}
	signers, err := n.checkQuorum(s, crypto.Keccak256(abiTuple(append(packDefinition(s.Definition), abiText(p.Data))...)), p.Sigs)
	if err != nil {
		return nil, err
	}
	if err := n.addSession(s, state{Version: 1, Intent: "create", Signers: signers}); err != nil {
		return nil, err
	}
	return map[string]any{"app_session_id": s.ID, "status": s.Status, "version": "1"}, nil
}

// newSession makes an empty session if the definition is valid. It isn't stored.
func (n *Node) newSession(p creation) (*server.Session, error) {
	d := p.Definition
	switch {
	case len(d.Participants) > maxParticipants:
		return nil, fmt.Errorf("participants array exceeds maximum length of %d", maxParticipants)
	case len(p.Sigs) > len(d.Participants):
		return nil, fmt.Errorf("quorum_sigs count (%d) exceeds participants count (%d)", len(p.Sigs), len(d.Participants))
	case len(p.Data) > maxDataBytes:
		return nil, fmt.Errorf("session_data exceeds maximum length of %d", maxDataBytes)
	case d.Application == "":
		return nil, errors.New("application id is required")
	case !applicationID.MatchString(d.Application):
		return nil, errors.New("invalid application id: must match " + applicationID.String())
	}
	def, err := d.parse()
	if err != nil {
		return nil, err
	}
	id := crypto.Keccak256Hash(abiTuple(packDefinition(def)...)).Hex()
	s := server.NewSession(id, def, 1, n.Config.Now())
	s.Data = p.Data
	return s, nil
}

// addSession stores a new session with its first state.
func (n *Node) addSession(s *server.Session, first state) error {
	const failed = "failed to create app session: failed to create app session: "
	if hasZeroByte(s.Data) {
		return errors.New(failed + zeroByteError)
	}
	if n.Sessions.ByID[s.ID] != nil {
		return errors.New(failed + `ERROR: duplicate key value violates unique constraint "app_sessions_v1_pkey" (SQLSTATE 23505)`)
	}
	n.Sessions.Add(s)
	n.states[s] = []state{first}
	for _, wallet := range s.Definition.Participants {
		n.Ledger.ApplyFaucet(wallet)
	}
	return nil
}

// parse checks a definition. It spells the participants in EIP-55.
func (d definition) parse() (server.Definition, error) {
	nonce, err := strconv.ParseUint(d.Nonce, 10, 64)
	switch {
	case err != nil:
		return server.Definition{}, errors.New("invalid app definition")
	case nonce == 0:
		return server.Definition{}, errors.New("nonce must be non-zero")
	case d.Quorum == 0:
		return server.Definition{}, errors.New("quorum must be greater than zero")
	}
	def := server.Definition{Application: d.Application, Quorum: uint64(d.Quorum), Nonce: nonce}
	var total uint64
	for _, p := range d.Participants {
		wallet, err := parseAddress(p.Wallet)
		if err != nil {
			return server.Definition{}, fmt.Errorf("invalid participant wallet_address %q: %w", p.Wallet, err)
		}
		if slices.Contains(def.Participants, wallet) {
			return server.Definition{}, errors.New("duplicate participant address: " + p.Wallet)
		}
		def.Participants, def.Weights = append(def.Participants, wallet), append(def.Weights, int64(p.Weight))
		total += uint64(p.Weight)
	}
	if def.Quorum > total {
		return server.Definition{}, fmt.Errorf("target quorum (%d) cannot be greater than total sum of weights (%d)", def.Quorum, total)
	}
	return def, nil
}

// packDefinition is the ABI encoding of a definition; the session's id is its Keccak-256.
func packDefinition(d server.Definition) []abiValue {
	participants := make([]abiValue, len(d.Participants))
	for i, p := range d.Participants {
		participants[i] = abiValue{bytes: abiTuple(abiAddress(p), abiNumber(uint64(d.Weights[i])))}
	}
	return []abiValue{abiText(d.Application), abiArray(participants...), abiNumber(d.Quorum), abiNumber(d.Nonce)}
}
