package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/settlement"
)

// newNode is the client for the configured ClearNode, without co-signers.
func (c *config) newNode(m *metrics) (*clearnode.Client, error) {
	cfg, err := c.nodeConfig(m)
	if err != nil {
		return nil, err
	}
	return clearnode.New(cfg)
}

func (c *config) nodeConfig(m *metrics) (clearnode.Config, error) {
	if c.nodeURL == "" {
		return clearnode.Config{}, errors.New("clearnode.url is not set: name the ClearNode's WebSocket, such as ws://127.0.0.1:8000/ws")
	}
	if len(c.nodeKeyFiles) == 0 {
		return clearnode.Config{}, errors.New("clearnode.key_files is not set: name the file with the private key that closes the sessions")
	}
	var signers []clearnode.Signer
	for _, path := range c.nodeKeyFiles {
		signer, err := clearnode.LoadKeyFile(path, c.nodePasswordFile)
		if err != nil {
			return clearnode.Config{}, fmt.Errorf("clearnode.key_files: %w", err)
		}
		signers = append(signers, signer)
	}
	cfg := clearnode.Config{
		URL: c.nodeURL, Protocol: c.nodeProtocol, Signers: signers, Connections: c.nodeConnections, RequestTimeout: c.nodeRequestTimeout,
		MessageExpiry: c.nodeExpiry, RequestValidity: c.nodeValidity, FenceMargin: c.nodeMargin, CosignTimeout: c.cosignTimeout,
		RateLimit: c.nodeRateLimit, RateBurst: c.nodeRateBurst, Application: c.nodeApplication,
	}
	if c.nodeAddress != "" {
		address, err := settlement.ParseAddress(c.nodeAddress)
		if err != nil {
			return cfg, fmt.Errorf("clearnode.node_address: %w", err)
		}
		cfg.NodeAddress = &address
	}
	if m != nil {
		cfg.Log, cfg.CallFunc = m.log, m.nodeCall
	}
	return cfg, cfg.Validate()
}

// tryKeys has every key sign something that is of no use to anybody, and logs whose
// it is: a key that can't sign is an error at the start, not when money has to move.
func (c *config) tryKeys(ctx context.Context, cfg clearnode.Config, log zerolog.Logger) error {
	digest := sha256.Sum256([]byte("settled: can this key sign?"))
	for _, s := range cfg.Signers {
		signature, err := s.Sign(ctx, digest)
		if err == nil {
			err = signedBy(s.Address(), digest, signature)
		}
		if err != nil {
			return fmt.Errorf("clearnode.key_files: the key of %s can't sign: %w", s.Address(), err)
		}
		log.Info().Stringer("address", s.Address()).Str("protocol", c.nodeProtocol).Str("node", withoutPassword(c.nodeURL)).Msg("key")
	}
	return nil
}

func signedBy(of settlement.Address, digest [32]byte, signature []byte) error {
	if len(signature) != crypto.SignatureLength || signature[64] < 27 {
		return errors.New("it makes no signature of 65 bytes that ends with 27 or 28")
	}
	plain := append([]byte{}, signature...)
	plain[64] -= 27
	key, err := crypto.SigToPub(digest[:], plain)
	if err != nil {
		return err
	}
	if settlement.Address(crypto.PubkeyToAddress(*key)) != of {
		return errors.New("its signature is another account's")
	}
	return nil
}
