package settlement

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/shopspring/decimal"
)

// MaxDigits is how many digits a decimal may have: a 256-bit integer needs 78.
const MaxDigits = 78

// Amount is an exact, non-negative quantity of an asset. Its zero value is 0.
type Amount struct{ d decimal.Decimal }

// ErrNegative means that the result of a subtraction would be negative.
var ErrNegative = errors.New("amount below zero")

// ParseAmount reads a decimal string: digits, and optionally a point and more
// digits; no sign, exponent, space or leading zero, at most MaxDigits digits.
func ParseAmount(s string) (Amount, error) {
	if err := checkDecimal(s); err != nil {
		return Amount{}, fmt.Errorf("amount %s: %w", Quote(s), err)
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Amount{}, fmt.Errorf("amount %s: %w", Quote(s), err)
	}
	return Amount{d}, nil
}

// AmountOfUnits returns units of 10^-decimals each. Units must not be negative.
func AmountOfUnits(units *big.Int, decimals int32) Amount {
	return Amount{decimal.NewFromBigInt(units, -decimals)}
}

// String returns the canonical decimal: no exponent, no trailing zero.
func (a Amount) String() string { return a.d.String() }

// IsZero reports whether the amount is 0.
func (a Amount) IsZero() bool { return a.d.IsZero() }

// Cmp returns -1, 0 or 1.
func (a Amount) Cmp(b Amount) int { return a.d.Cmp(b.d) }

// Equal compares by value: 8 equals 8.00.
func (a Amount) Equal(b Amount) bool { return a.d.Equal(b.d) }

// Add returns the exact sum.
func (a Amount) Add(b Amount) Amount { return Amount{a.d.Add(b.d)} }

// Sub returns the exact difference, or ErrNegative.
func (a Amount) Sub(b Amount) (Amount, error) {
	d := a.d.Sub(b.d)
	if d.IsNegative() {
		return Amount{}, ErrNegative
	}
	return Amount{d}, nil
}

// Decimals returns how many digits after the point the value needs.
func (a Amount) Decimals() int32 {
	_, fraction, _ := strings.Cut(a.String(), ".")
	return int32(len(fraction)) // #nosec G115 -- at most MaxDigits when parsed
}

// Units returns the amount in units of 10^-decimals. It is exact if decimals is at least
// Decimals().
func (a Amount) Units(decimals int32) *big.Int { return a.d.Shift(decimals).BigInt() }

// MarshalJSON writes the canonical decimal as a string, never a number.
func (a Amount) MarshalJSON() ([]byte, error) { return []byte(`"` + a.String() + `"`), nil }

// UnmarshalJSON reads a string by ParseAmount and rejects a number.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("amount: want a string: %w", err)
	}
	parsed, err := ParseAmount(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// checkDecimal matches s with (0|[1-9][0-9]*)(\.[0-9]+)?, at most MaxDigits digits.
func checkDecimal(s string) error {
	whole, fraction, point := strings.Cut(s, ".")
	if len(whole)+len(fraction) > MaxDigits {
		return fmt.Errorf("more than %d digits", MaxDigits)
	}
	if !isDigits(whole) || point && !isDigits(fraction) {
		return errors.New(`want a decimal string such as "12.5": digits and at most one point, no sign, exponent or space`)
	}
	if len(whole) > 1 && whole[0] == '0' {
		return errors.New("leading zero")
	}
	return nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
