package nitrorpc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// clearnodeApplication is the application whose session keys may sign for every application.
const clearnodeApplication = "clearnode"

// sessionKeys are the keys that wallets named at login to sign for them, by address. They survive a restart.
type sessionKeys map[string]policy

// register adds the key of a login. A wallet has one key for each application: a new one replaces the old.
func (k sessionKeys) register(p policy, assets []server.Asset, now time.Time) error {
	if err := checkAllowances(p.Allowances, assets); err != nil {
		return fmt.Errorf("unsupported token: %w", err)
	}
	if old, ok := k[p.SessionKey]; ok {
		switch {
		case old.Wallet != p.Wallet:
			return errors.New("signer is already in use for another wallet")
		case now.After(old.ExpiresAt):
			return errors.New("session key already exists but is expired")
		}
		return nil
	}
	if now.After(p.ExpiresAt) {
		return errors.New("expiration time must be set and in the future")
	}
	for address, old := range k {
		if old.Wallet == p.Wallet && old.Application == p.Application {
			delete(k, address)
		}
	}
	k[p.SessionKey] = p
	return nil
}

func checkAllowances(allowances []allowance, assets []server.Asset) error {
	for _, a := range allowances {
		if !slices.ContainsFunc(assets, func(known server.Asset) bool { return known.Symbol == a.Asset }) {
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

// wallet is the wallet that a signer signs for: that of a session key that hasn't expired, otherwise the signer.
func (k sessionKeys) wallet(signer string, now time.Time) string {
	if p, ok := k[signer]; ok && !now.After(p.ExpiresAt) {
		return p.Wallet
	}
	return signer
}

// wallets are the wallets that the signers sign for, each once.
func (k sessionKeys) wallets(signers []string, now time.Time) []string {
	var all []string
	for _, s := range signers {
		if w := k.wallet(s, now); !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// checkApplication checks that the session keys among the signers are valid for the application.
func (k sessionKeys) checkApplication(signers []string, application string, now time.Time) error {
	for _, s := range signers {
		if k.wallet(s, now) == s {
			continue
		}
		if err := k[s].permits(application); err != nil {
			return fmt.Errorf("session key application validation failed for signer %s: %w", s, err)
		}
	}
	return nil
}

// permits checks that a session key is valid for an application.
func (p policy) permits(application string) error {
	if p.Application == clearnodeApplication || p.Application == application {
		return nil
	}
	return fmt.Errorf("session key application mismatch: session key is for '%s', but app session is for '%s'", p.Application, application)
}

// checkSpending checks that a session key may deposit an amount into a session of the application, after what it spent.
func (k sessionKeys) checkSpending(key, application, asset string, amount, spent decimal.Decimal) error {
	p := k[key]
	if err := p.permits(application); err != nil {
		return fmt.Errorf("session key application validation failed: %w", err)
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
			return fmt.Errorf(denied+"insufficient session key allowance: %s required, %s available", amount, allowed.Sub(spent))
		}
		return nil
	}
	return fmt.Errorf(denied+"asset %s not allowed in session key spending cap", asset)
}
