package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// wire is how a generation of node is spoken to, with as little work as possible.
type wire interface {
	// login signs a connection in, the number-th of its account.
	login(ctx context.Context, c *conn, number int) error
	reads(s Session) []call      // what a settlement needs at least
	closes(s Session) []call     // what closes a session as it must pay, in order
	id(frame []byte) uint64      // of the request that a frame may answer
	refusal(frame []byte) string // the error that a frame answers; "" for any other
	recover(frame []byte) error  // recovers who signed an answer, where the generation signs any
	methods() (reads []string, close string)
}

// signer is the account that closes the sessions. It counts what it does.
type signer struct {
	key                  *ecdsa.PrivateKey
	address              string
	signatures, recovers atomic.Uint64
}

func (s *signer) sign(digest []byte) ([]byte, error) {
	s.signatures.Add(1)
	return crypto.Sign(digest, s.key)
}

func newWire(protocol string, key *ecdsa.PrivateKey) (wire, *signer) {
	s := &signer{key: key, address: crypto.PubkeyToAddress(key.PublicKey).Hex()}
	if protocol == clearnodetest.NitronodeV1 {
		return &nitronodeWire{s}, s
	}
	return &nitrorpcWire{signer: s, legacy: protocol == clearnodetest.Legacy}, s
}

// nitrorpcWire is NitroRPC 0.2 and 0.4, and the legacy protocol, whose params stand in a list.
type nitrorpcWire struct {
	*signer
	legacy bool
	token  string // of the first sign-in, for the connections after it
}

type (
	ofSession struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	closeParams struct {
		Session     settlement.SessionID    `json:"app_session_id"`
		Allocations []settlement.Allocation `json:"allocations"`
	}
)

const closeMethod = "close_app_session"

func (n *nitrorpcWire) methods() (reads []string, close string) {
	if n.legacy { // it lists no transactions: a player's list has the session's state
		return []string{"get_app_definition", "get_app_sessions", "get_assets"}, closeMethod
	}
	return []string{"get_app_definition", "get_ledger_transactions", "get_app_sessions"}, closeMethod
}

func (n *nitrorpcWire) reads(s Session) []call {
	definition := n.unsigned("get_app_definition", ofSession{s.ID})
	if n.legacy {
		list := map[string]string{"participant": s.Pays[0].Participant, "status": "open"}
		return []call{definition, n.unsigned("get_app_sessions", list), n.unsigned("get_assets", nil)}
	}
	return []call{definition, n.unsigned("get_ledger_transactions", map[string]any{"account_id": s.ID, "limit": 100})}
}

func (n *nitrorpcWire) closes(s Session) []call {
	return []call{n.signed(closeMethod, closeParams{s.ID, s.Pays}, crypto.Keccak256)}
}

func (n *nitrorpcWire) unsigned(method string, params any) call { return n.signed(method, params, nil) }

// signed makes a request whose signature covers a digest of it; nil: none.
func (n *nitrorpcWire) signed(method string, params any, digest func(...[]byte) []byte) call {
	switch {
	case n.legacy && params == nil:
		params = []any{}
	case n.legacy:
		params = []any{params}
	}
	return func(id uint64) ([]byte, error) {
		req, err := json.Marshal([]any{id, method, params, time.Now().UnixMilli()})
		if err != nil || digest == nil {
			return fmt.Appendf(nil, `{"req":%s,"sig":[]}`, req), err
		}
		sig, err := n.sign(digest(req))
		return fmt.Appendf(nil, `{"req":%s,"sig":["%s"]}`, req, hexutil.Encode(sig)), err
	}
}

// id reads {"res":[ID,…. Notifications have an id that no request has.
func (n *nitrorpcWire) id(frame []byte) uint64 { return number(frame, '[') }

// number is the number between a character and the next comma.
func number(frame []byte, after byte) uint64 {
	start := bytes.IndexByte(frame, after) + 1
	text, _, _ := bytes.Cut(frame[start:], []byte(","))
	n, _ := strconv.ParseUint(string(text), 10, 64)
	return n
}

// refusal of {"res":[ID,"error",{"error":"…"},TIME],…, or {"err":….
func (n *nitrorpcWire) refusal(frame []byte) string {
	_, rest, _ := bytes.Cut(frame, []byte(","))
	if bytes.HasPrefix(rest, []byte(`"error"`)) || bytes.HasPrefix(frame, []byte(`{"err"`)) {
		return string(frame)
	}
	return ""
}

func (n *nitrorpcWire) recover(frame []byte) error {
	signed, rest, _ := bytes.Cut(frame, []byte(`,"sig":["`))
	signed, found := bytes.CutPrefix(signed, []byte(`{"res":`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	sig, err := hexutil.Decode(string(text))
	if !found || err != nil || len(sig) != crypto.SignatureLength {
		return errors.New("an answer of the node has no signature that can be read")
	}
	if sig[64] >= 27 {
		sig[64] -= 27
	}
	n.recovers.Add(1)
	_, err = crypto.SigToPub(crypto.Keccak256(signed), sig)
	return err
}

// login registers a session key for the first connection, and gives the others its token.
func (n *nitrorpcWire) login(ctx context.Context, c *conn, number int) error {
	if n.legacy {
		return n.loginLegacy(ctx, c, number)
	}
	var result struct {
		Challenge string `json:"challenge_message"`
		Token     string `json:"jwt_token"`
	}
	if n.token != "" {
		return n.askFor(ctx, c, n.unsigned("auth_verify", map[string]string{"jwt": n.token}), &result)
	}
	key, err := crypto.GenerateKey() // signs nothing: the node demands one
	if err != nil {
		return err
	}
	sessionKey, application, expires := crypto.PubkeyToAddress(key.PublicKey).Hex(), "settled bench", time.Now().Add(time.Hour).Unix()
	err = n.askFor(ctx, c, n.unsigned("auth_request", map[string]any{
		"address": n.address, "session_key": sessionKey, "application": application, "allowances": []any{}, "expires_at": expires, "scope": "",
	}), &result)
	if err != nil {
		return err
	}
	policy := func(...[]byte) []byte {
		return policyDigest(application, result.Challenge, n.address, sessionKey, expires)
	}
	err = n.askFor(ctx, c, n.signed("auth_verify", map[string]string{"challenge": result.Challenge}, policy), &result)
	n.token = result.Token
	return err
}

// loginLegacy signs the address in under a spelling of its own: a legacy node keeps one
// connection for each.
func (n *nitrorpcWire) loginLegacy(ctx context.Context, c *conn, number int) error {
	spelling := []byte(n.address)
	for i := 2; i < len(spelling) && number > 0; i++ {
		if spelling[i] > '9' {
			if number--; number == 0 {
				spelling[i] ^= 'a' - 'A'
			}
		}
	}
	verify := struct {
		Address   string `json:"address"`
		Challenge string `json:"challenge"`
	}{Address: string(spelling)}
	var asked struct {
		Challenge string `json:"challenge_message"`
	}
	if err := n.askFor(ctx, c, n.unsigned("auth_request", verify.Address), &asked); err != nil {
		return err
	}
	verify.Challenge = asked.Challenge
	return n.askFor(ctx, c, n.signed("auth_verify", verify, crypto.Keccak256), &struct{}{})
}

// askFor decodes the params of an answer.
func (n *nitrorpcWire) askFor(ctx context.Context, c *conn, request call, into any) error {
	answers, err := c.ask(ctx, request)
	if err != nil {
		return err
	}
	var f struct{ Res []json.RawMessage }
	if err := json.Unmarshal(answers[0], &f); err != nil || len(f.Res) != 4 {
		return fmt.Errorf("the answer can't be read: %s", answers[0])
	}
	if n.legacy {
		into = &[]any{into}
	}
	return json.Unmarshal(f.Res[2], into)
}

// policyDigest is what the account signs to sign in (EIP-712).
func policyDigest(application, challenge, wallet, sessionKey string, expires int64) []byte {
	hash := func(text string) []byte { return crypto.Keccak256([]byte(text)) }
	address := func(text string) []byte { return common.LeftPadBytes(common.HexToAddress(text).Bytes(), 32) }
	const policy = "Policy(string challenge,string scope,address wallet,address session_key,uint64 expires_at,Allowance[] allowances)Allowance(string asset,string amount)"
	at := binary.BigEndian.AppendUint64(make([]byte, 24), uint64(expires)) // #nosec G115 -- after 1970
	domain := crypto.Keccak256(hash("EIP712Domain(string name)"), hash(application))
	message := crypto.Keccak256(hash(policy), hash(challenge), hash(""), address(wallet), address(sessionKey), at, crypto.Keccak256())
	return crypto.Keccak256([]byte{0x19, 0x01}, domain, message)
}

// nitronodeWire is nitronode v1: no sign-in, and two signed updates to close a session.
type nitronodeWire struct{ *signer }

const (
	nitronodeRead   = "app_sessions.v1.get_app_sessions"
	nitronodeSubmit = "app_sessions.v1.submit_app_state"
	intentOperate   = 0 // an update that changes the allocation
	intentClose     = 3 // an update that pays it out
)

func (n *nitronodeWire) methods() (reads []string, close string) {
	return []string{nitronodeRead}, nitronodeSubmit
}

func (n *nitronodeWire) login(context.Context, *conn, int) error { return nil }
func (n *nitronodeWire) recover([]byte) error                    { return nil }

func encodeNitronode(id uint64, method string, payload any) ([]byte, error) {
	return json.Marshal([]any{1, id, method, payload, time.Now().UnixMilli()})
}

func (n *nitronodeWire) reads(s Session) []call {
	return []call{func(id uint64) ([]byte, error) { return encodeNitronode(id, nitronodeRead, ofSession{s.ID}) }}
}

func (n *nitronodeWire) closes(s Session) []call {
	var paid []settlement.Allocation // a close need not name zeros
	for _, a := range s.Pays {
		if !a.Amount.IsZero() {
			paid = append(paid, a)
		}
	}
	return []call{n.update(s, intentOperate, s.Version+1, s.Pays), n.update(s, intentClose, s.Version+2, paid)}
}

func (n *nitronodeWire) update(s Session, intent uint8, version uint64, rows []settlement.Allocation) call {
	type row struct {
		Participant   common.Address
		Asset, Amount string
	}
	return func(id uint64) ([]byte, error) {
		packed := make([]row, len(rows))
		for i, a := range rows {
			packed[i] = row{common.HexToAddress(a.Participant), string(a.Asset), a.Amount.String()}
		}
		payload, err := updatePacking.Pack(common.HexToHash(string(s.ID)), intent, version, packed, "")
		if err != nil {
			return nil, err
		}
		sig, err := n.sign(crypto.Keccak256([]byte("\x19Ethereum Signed Message:\n32"), crypto.Keccak256(payload)))
		if err != nil {
			return nil, err
		}
		sig[64] += 27
		return encodeNitronode(id, nitronodeSubmit, map[string]any{
			"app_state_update": map[string]any{
				"app_session_id": s.ID, "intent": intent, "version": strconv.FormatUint(version, 10), "allocations": rows, "session_data": "",
			},
			"quorum_sigs": []string{"0xa1" + strings.TrimPrefix(hexutil.Encode(sig), "0x")},
		})
	}
}

// updatePacking is what is signed of an update: id, intent, version, rows, data.
var updatePacking = func() (arguments abi.Arguments) {
	row := []abi.ArgumentMarshaling{{Name: "participant", Type: "address"}, {Name: "asset", Type: "string"}, {Name: "amount", Type: "string"}}
	for _, name := range []string{"bytes32", "uint8", "uint64", "tuple[]", "string"} {
		t, err := abi.NewType(name, "", row)
		if err != nil {
			panic(err) // a name above
		}
		arguments = append(arguments, abi.Argument{Type: t})
	}
	return arguments
}()

// id reads [2,ID,…, or [4,ID,… of an error.
func (n *nitronodeWire) id(frame []byte) uint64 { return number(frame, ',') }

func (n *nitronodeWire) refusal(frame []byte) string {
	if bytes.HasPrefix(frame, []byte("[4,")) {
		return string(frame)
	}
	return ""
}
