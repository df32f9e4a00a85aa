package nitrorpc

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

// policy is what a login permits and what its token contains.
type policy struct {
	Wallet      string      `json:"wallet"`
	SessionKey  string      `json:"session_key"`
	Scope       string      `json:"scope"`
	Application string      `json:"application"`
	Allowances  []allowance `json:"allowance"`
	ExpiresAt   time.Time   `json:"expiration"`
}

func (p authParams) policy() policy {
	return policy{
		Wallet: p.Address, SessionKey: p.SessionKey, Scope: p.Scope, Application: p.Application, Allowances: p.Allowances,
		ExpiresAt: time.Unix(int64(min(p.ExpiresAt, maxExpiry)), 0).UTC(),
	}
}

// maxExpiry is the last second that a token can contain as a date, in the year 9999.
const maxExpiry = 253402300799

const (
	domainType    = "EIP712Domain(string name)"
	allowanceType = "Allowance(string asset,string amount)"
	policyType    = "Policy(string challenge,string scope,address wallet,address session_key,uint64 expires_at,Allowance[] allowances)" + allowanceType
)

// digest is what the wallet signs to log in: EIP-712 over the policy, in a domain that contains only the application's name
// (testdata/vectors.json).
func (p authParams) digest(challenge server.ChallengeID) ([]byte, error) {
	if !common.IsHexAddress(p.Address) || !common.IsHexAddress(p.SessionKey) || p.Application == "" {
		return nil, errors.New("not a policy")
	}
	var allowances []byte
	for _, a := range p.Allowances {
		allowances = append(allowances, structHash(allowanceType, hashText(a.Asset), hashText(a.Amount))...)
	}
	domain := structHash(domainType, hashText(p.Application))
	message := structHash(policyType,
		hashText(challenge.String()), hashText(p.Scope), word(common.HexToAddress(p.Address).Bytes()),
		word(common.HexToAddress(p.SessionKey).Bytes()), word(binary.BigEndian.AppendUint64(nil, p.ExpiresAt)),
		crypto.Keccak256(allowances))
	return crypto.Keccak256([]byte("\x19\x01"), domain, message), nil
}

func structHash(kind string, fields ...[]byte) []byte {
	return crypto.Keccak256(append([][]byte{hashText(kind)}, fields...)...)
}

func hashText(s string) []byte { return crypto.Keccak256([]byte(s)) }

func word(b []byte) []byte { return common.LeftPadBytes(b, 32) }
