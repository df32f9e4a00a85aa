package clearnodetest

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
)

// clearnodeApplication is the application whose session keys may sign for every application.
const clearnodeApplication = "clearnode"

// sessionKeys are the keys that wallets named at login to sign for them, by address. They survive a restart.
type sessionKeys map[string]policy

// admit registers the key of a login. A wallet has one key per application: a new one replaces the old.
func (k sessionKeys) admit(p policy, assets []Asset, now time.Time) error {
	if err := supported(p.Allowances, assets); err != nil {
		return refusal("unsupported token: " + err.Error())
	}
	if old, ok := k[p.SessionKey]; ok {
		switch {
		case old.Wallet != p.Wallet:
			return refusal("signer is already in use for another wallet")
		case now.After(old.ExpiresAt):
			return refusal("session key already exists but is expired")
		}
		return nil
	}
	if now.After(p.ExpiresAt) {
		return refusal("expiration time must be set and in the future")
	}
	for address, old := range k {
		if old.Wallet == p.Wallet && old.Application == p.Application {
			delete(k, address)
		}
	}
	k[p.SessionKey] = p
	return nil
}

func supported(allowances []allowance, assets []Asset) error {
	known := map[string]bool{}
	for _, a := range assets {
		known[a.Symbol] = true
	}
	for _, a := range allowances {
		if !known[a.Asset] {
			return fmt.Errorf("asset '%s' is not supported", a.Asset)
		}
		amount, err := decimal.NewFromString(a.Amount)
		if err != nil {
			return fmt.Errorf("invalid amount '%s' for asset '%s': %w", a.Amount, a.Asset, err)
		}
		if amount.IsNegative() {
			return fmt.Errorf("allowance amount cannot be negative for asset '%s', got '%s'", a.Asset, a.Amount)
		}
	}
	return nil
}

// wallet is whom a signer signs for: the wallet of a session key that hasn't expired, else itself.
func (k sessionKeys) wallet(signer string, now time.Time) string {
	if p, ok := k[signer]; ok && !now.After(p.ExpiresAt) {
		return p.Wallet
	}
	return signer
}

// wallets are whom the signers sign for, each once.
func (k sessionKeys) wallets(signers []string, now time.Time) []string {
	var all []string
	for _, s := range signers {
		if w := k.wallet(s, now); !contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// fit checks that the session keys among the signers are meant for the application.
func (k sessionKeys) fit(signers []string, application string, now time.Time) error {
	for _, s := range signers {
		if k.wallet(s, now) == s {
			continue
		}
		if err := mismatch(k[s], application); err != "" {
			return refusal(fmt.Sprintf("session key application validation failed for signer %s: %s", s, err))
		}
	}
	return nil
}

func mismatch(p policy, application string) string {
	if p.Application == clearnodeApplication || p.Application == application {
		return ""
	}
	return fmt.Sprintf("session key application mismatch: session key is for '%s', but app session is for '%s'", p.Application, application)
}

// spend checks that a session key may put an amount into a session of the application. Spent is what it took already.
func (k sessionKeys) spend(key, application, asset string, amount, spent decimal.Decimal) error {
	p := k[key]
	if err := mismatch(p, application); err != "" {
		return refusal("session key application validation failed: " + err)
	}
	if p.Application == clearnodeApplication {
		return nil
	}
	const denied = "session key spending validation failed: operation denied: "
	for _, a := range p.Allowances {
		if a.Asset != asset {
			continue
		}
		allowed, err := decimal.NewFromString(a.Amount)
		if err == nil && spent.Add(amount).GreaterThan(allowed) {
			return refusal(fmt.Sprintf(denied+"insufficient session key allowance: %s required, %s available", amount, allowed.Sub(spent)))
		}
		return nil
	}
	return refusal(fmt.Sprintf(denied+"asset %s not allowed in session key spending cap", asset))
}
