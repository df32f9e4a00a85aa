package config

import (
	"fmt"
	"slices"
	"strings"

	"settled/clearnode"
	"settled/consumer"
	"settled/settlement"
)

// outcomeSigners are the accounts whose signature an outcome must carry.
func (c *Config) outcomeSigners() ([]settlement.Address, error) {
	var signers []settlement.Address
	for _, text := range c.TrustOutcomeSigners {
		address, err := settlement.ParseChecksummed(strings.TrimSpace(text))
		switch {
		case err != nil:
			return nil, fmt.Errorf("trust.outcome_signers: %w", err)
		case slices.Contains(signers, address):
			return nil, fmt.Errorf("trust.outcome_signers: %s stands twice", address)
		}
		signers = append(signers, address)
	}
	return signers, nil
}

// TrustFunc returns the check of an outcome's signature; nil if none is required.
func (c *Config) TrustFunc() func(settlement.Outcome) *settlement.Failure {
	signers, err := c.outcomeSigners()
	if err == nil && len(signers) == 0 {
		return nil
	}
	return func(o settlement.Outcome) *settlement.Failure {
		if err != nil {
			return settlement.Fail(settlement.UntrustedOutcome, "%s", err)
		}
		return CheckSignature(signers, o)
	}
}

func CheckSignature(signers []settlement.Address, o settlement.Outcome) *settlement.Failure {
	signatures := headerValues(o.Envelope.Header, consumer.SignatureHeader)
	switch len(signatures) {
	case 0:
		return settlement.Fail(settlement.UntrustedOutcome, "it carries no %s: its publisher must sign it (settled publish --sign-key)", consumer.SignatureHeader)
	case 1:
	default:
		return settlement.Fail(settlement.UntrustedOutcome, "%s stands %d times", consumer.SignatureHeader, len(signatures))
	}
	signer, err := clearnode.MessageSigner(o.Ref.SignedText(), strings.TrimSpace(signatures[0]))
	switch {
	case err != nil:
		return settlement.Fail(settlement.UntrustedOutcome, "%s: %s", consumer.SignatureHeader, err)
	case !slices.Contains(signers, signer):
		return settlement.Fail(settlement.UntrustedOutcome, "signed by %s, who is none of trust.outcome_signers; or its source, id, type or data are not what was signed", signer)
	}
	return nil
}

// headerValues returns the values of a header, whatever its case.
func headerValues(header map[string][]string, name string) []string {
	var values []string
	for key, some := range header {
		if strings.EqualFold(key, name) {
			values = append(values, some...)
		}
	}
	return values
}
