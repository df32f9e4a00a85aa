package nitrorpc

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

type claims struct {
	Policy    policy `json:"policy"`
	Issuer    string `json:"iss"`
	Expires   int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`
}

const tokenHeader = `{"alg":"ES256","typ":"JWT"}`

// writeToken makes the login's JWT: ES256, but with the broker's secp256k1 key, as the real node does.
func writeToken(p policy, key *ecdsa.PrivateKey, now time.Time) string {
	body := server.Marshal(claims{
		Policy: p, Issuer: "clearnode",
		Expires: now.Add(server.LoginLifetime).Unix(), NotBefore: now.Unix(), IssuedAt: now.Unix(),
	})
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(tokenHeader)) + "." + b64.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	sig, err := crypto.Sign(digest[:], key)
	if err != nil {
		panic("clearnodetest: sign a token: " + err.Error())
	}
	return signed + "." + b64.EncodeToString(sig[:64])
}

// readToken accepts a token that the key signed and that is valid now. The node stores no tokens, so they survive a restart.
func readToken(token string, key *ecdsa.PublicKey, now time.Time) (*claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not three parts")
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil {
			return nil, err
		}
		raw[i] = b
	}
	var header struct {
		Alg string `json:"alg"`
	}
	var c claims
	if err := errors.Join(json.Unmarshal(raw[0], &header), json.Unmarshal(raw[1], &c)); err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if header.Alg != "ES256" || !verified(key, digest[:], raw[2]) {
		return nil, errors.New("not signed by the key")
	}
	if c.Issuer != "clearnode" || now.Unix() >= c.Expires || now.Unix() < c.NotBefore {
		return nil, errors.New("not valid now")
	}
	return &c, nil
}

// verified checks a signature r‖s. The real node's tokens may have s in the upper half, which go-ethereum refuses.
func verified(key *ecdsa.PublicKey, digest, sig []byte) bool {
	return len(sig) == 64 && ecdsa.Verify(key, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}
