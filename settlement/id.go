package settlement

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
)

// SessionID names an app session: "0x" and 64 lower-case hex digits. It is empty for an
// outcome whose session id can't be read.
type SessionID string

// UnknownSession stands for the empty SessionID in subjects, entry ids and headers.
const UnknownSession = "unknown"

// ParseSessionID reads a session id written with hex digits of any case.
func ParseSessionID(s string) (SessionID, error) {
	if len(s) != 66 || s[:2] != "0x" || !isHex(s[2:]) {
		return "", fmt.Errorf("session id %s: want 0x and 64 hex digits", Quote(s))
	}
	return SessionID(strings.ToLower(s)), nil
}

// Token returns the id as it is written in subjects and entry ids.
func (id SessionID) Token() string {
	if id == "" {
		return UnknownSession
	}
	return string(id)
}

// MarshalJSON writes the token.
func (id SessionID) MarshalJSON() ([]byte, error) { return json.Marshal(id.Token()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (id *SessionID) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == UnknownSession {
		*id = ""
		return nil
	}
	parsed, err := ParseSessionID(s)
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// Address is an account: 20 bytes, compared without regard to how it was spelled.
type Address common.Address

// ParseAddress reads "0x" and 40 hex digits of any case. It does not verify a checksum in
// the case of the digits: a node and its contract compare addresses without regard to case.
func ParseAddress(s string) (Address, error) {
	if len(s) != 42 || s[:2] != "0x" || !isHex(s[2:]) {
		return Address{}, fmt.Errorf("address %s: want 0x and 40 hex digits", Quote(s))
	}
	b, err := hex.DecodeString(s[2:])
	if err != nil {
		return Address{}, fmt.Errorf("address %s: %w", Quote(s), err)
	}
	return Address(b), nil
}

// ParseChecksummed reads an address of the configuration or of an outcome: if its digits are of both cases,
// they must be its EIP-55 checksum, which detects a mistyped digit.
func ParseChecksummed(s string) (Address, error) {
	a, err := ParseAddress(s)
	if err != nil {
		return Address{}, err
	}
	digits := s[2:]
	if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && s != a.String() {
		return Address{}, fmt.Errorf("address %s: its checksum (EIP-55, the case of its letters) is wrong: a digit may be mistyped; compare it with its source, or write it in lower case", Quote(s))
	}
	return a, nil
}

// String returns the address with its EIP-55 checksum.
func (a Address) String() string { return common.Address(a).Hex() }

// Asset is an asset's symbol as the node lists it, compared byte by byte
// (ClearNode 0.5.2 refuses "USDC" where it lists "usdc").
type Asset string

// ParseAsset accepts 1 to 64 bytes of printable UTF-8 without white space.
func ParseAsset(s string) (Asset, error) {
	if s == "" || len(s) > 64 || !utf8.ValidString(s) {
		return "", fmt.Errorf("asset %s: want 1 to 64 bytes of UTF-8", Quote(s))
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) {
			return "", fmt.Errorf("asset %s: holds a space or an unprintable character", Quote(s))
		}
	}
	return Asset(s), nil
}

// Scenario is the kind of an outcome: the last token of its subject.
type Scenario string

// ParseScenario accepts 1 to 64 of a-z, 0-9 and underscore.
func ParseScenario(s string) (Scenario, error) {
	if s == "" || len(s) > 64 {
		return "", fmt.Errorf("scenario %s: want 1 to 64 characters", Quote(s))
	}
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return "", fmt.Errorf("scenario %s: want only a-z, 0-9 and _", Quote(s))
	}
	return Scenario(s), nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// Quote returns untrusted text for a message: quoted, and truncated if it is long, so that
// hostile input can't flood a log.
func Quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%.*q… (%d bytes)", most, s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
