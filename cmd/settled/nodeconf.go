package main

import (
	"context"
	"errors"
	"fmt"

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
	signers, err := c.signers()
	if err != nil {
		return clearnode.Config{}, err
	}
	cfg, err := c.nodeSpoken()
	if err != nil {
		return cfg, err
	}
	cfg.Signers, cfg.CosignTimeout, cfg.CosignPatience, cfg.Application = signers, c.cosignTimeout, c.cosignPatience, c.nodeApplication
	if m != nil {
		cfg.Log, cfg.CallFunc = m.log, m.nodeCall
		cfg.UnknownErrorFunc = func(method, _ string) { m.unknown.WithLabelValues(method).Inc() }
	}
	return cfg, cfg.Validate()
}

// signers are the configured keys.
func (c *config) signers() ([]clearnode.Signer, error) {
	var signers []clearnode.Signer
	for _, path := range c.nodeKeyFiles {
		signer, err := clearnode.LoadKeyFile(path, c.nodePasswordFile)
		if err != nil {
			return nil, fmt.Errorf("clearnode.key_files: %w", err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

// nodeSpoken is which node there is and how it is spoken to, without keys.
func (c *config) nodeSpoken() (clearnode.Config, error) {
	cfg := clearnode.Config{
		URL: c.nodeURL, Protocol: c.nodeProtocol, Connections: c.nodeConnections, RequestTimeout: c.nodeRequestTimeout,
		MessageExpiry: c.nodeExpiry, RequestValidity: c.nodeValidity, FenceMargin: c.nodeMargin,
		CAFile: c.nodeCA, RateLimit: c.nodeRateLimit, RateBurst: c.nodeRateBurst,
	}
	if c.nodeAddress != "" {
		address, err := settlement.ParseChecksummed(c.nodeAddress)
		if err != nil {
			return cfg, fmt.Errorf("clearnode.node_address: %w", err)
		}
		cfg.NodeAddress = &address
	}
	return cfg, nil
}

// logKeys says whose keys these are. That each can sign was found out when it was
// read.
func (c *config) logKeys(cfg clearnode.Config, log zerolog.Logger) {
	for _, s := range cfg.Signers {
		log.Info().Stringer("address", s.Address()).Str("protocol", c.nodeProtocol).Str("node", withoutPassword(c.nodeURL)).Msg("key")
	}
}

// besideNode runs the node's connections as long as work runs, and ends them after
// it: what is in hand when ctx ends still needs them.
func besideNode(ctx context.Context, node *clearnode.Client, work func(context.Context) error) error {
	nodeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- node.Run(nodeCtx) }()
	err := work(ctx)
	stop()
	return errors.Join(err, <-done)
}
