package clearnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"settled/settlement"
)

// What an update may be for. There are others (1 deposit, 2 withdraw).
const (
	v1Operate = 0 // the split moves, and the sum of each asset stays
	v1Close   = 3 // the split is paid out as it stands
)

// v1Update is one update of a session, in the order that the wire has it.
type v1Update struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Intent      uint8                   `json:"intent"`
	Version     string                  `json:"version"` // the session's afterwards; a number is refused (recorded)
	Allocations []settlement.Allocation `json:"allocations"`
	SessionData string                  `json:"session_data"` // empty: it stays as it is
}

// v1Submission is the payload of submit_app_state.
type v1Submission struct {
	Update     v1Update `json:"app_state_update"`
	Signatures []string `json:"quorum_sigs"`
}

// v1Scheme signs the packed update: EIP-191 over its keccak256, and before the
// signature what kind of key made it, here a wallet's (testdata/v1/vectors.json).
var v1Scheme = scheme{
	digest: func(payload []byte) [32]byte {
		hash := keccak(payload)
		return keccak([]byte("\x19Ethereum Signed Message:\n32"), hash[:])
	},
	prefix: []byte{0xa1},
}

// v1Row is an allocation as it is packed.
type v1Row struct {
	Participant common.Address
	Asset       string
	Amount      string
}

// v1Packing: (bytes32 id, uint8 intent, uint64 version, (address participant,
// string asset, string amount)[] allocations, string data).
var v1Packing = packing("bytes32", "uint8", "uint64", "tuple[]", "string")

func packing(names ...string) (arguments abi.Arguments) {
	row := []abi.ArgumentMarshaling{{Name: "participant", Type: "address"}, {Name: "asset", Type: "string"}, {Name: "amount", Type: "string"}}
	for _, name := range names {
		t, err := abi.NewType(name, "", row)
		if err != nil {
			panic(err) // a name above
		}
		arguments = append(arguments, abi.Argument{Type: t})
	}
	return arguments
}

// pack makes the bytes that are signed. The node packs what it read from the frame
// once more: amounts as canonical decimals, whichever way they were written
// (recorded: "8.0", signed as sent, is somebody else's signature).
func (u v1Update) pack() ([]byte, error) {
	version, err := strconv.ParseUint(u.Version, 10, 64)
	if err != nil {
		return nil, errors.New("the update has no version")
	}
	rows := make([]v1Row, len(u.Allocations))
	for i, a := range u.Allocations {
		address, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return nil, err
		}
		rows[i] = v1Row{common.Address(address), string(a.Asset), a.Amount.String()}
	}
	return v1Packing.Pack(common.HexToHash(string(u.Session)), u.Intent, version, rows, u.SessionData)
}

// frame is the signed request.
func (u v1Update) frame(id, ts uint64, signatures []string) ([]byte, error) {
	return v1Request(id, v1Submit, v1Submission{u, signatures}, ts)
}

// readV1Request reads a prepared request back. That the update to be sent is the
// one that was recorded is looked at once more before money moves.
func readV1Request(r settlement.Request) (v1Update, error) {
	var kind uint8
	var id, ts uint64
	var method string
	var s v1Submission
	if err := json.Unmarshal(r.Frame, &[]any{&kind, &id, &method, &s, &ts}); err != nil {
		return v1Update{}, fmt.Errorf("the request can't be read: %w", err)
	}
	packed, err := s.Update.pack()
	if err != nil {
		return v1Update{}, fmt.Errorf("the request can't be read: %w", err)
	}
	if digestOf(packed) != r.Ref.Digest {
		return v1Update{}, errors.New("the request is not the one that was recorded")
	}
	if kind != v1KindRequest || id != r.Ref.ID || ts != r.Ref.Timestamp || method != v1Submit || (s.Update.Intent == v1Close) != r.Closes {
		return v1Update{}, errors.New("the request is not the update that was recorded")
	}
	return s.Update, nil
}
