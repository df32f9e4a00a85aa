package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"settled/clearnode"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// Node is the configuration of the client for the ClearNode.
func (c *Config) Node() (clearnode.Config, error) {
	if c.NodeURL == "" {
		return clearnode.Config{}, errors.New("clearnode.url is not set: name the ClearNode's WebSocket, such as ws://127.0.0.1:8000/ws")
	}
	if len(c.NodeKeyFiles) == 0 {
		return clearnode.Config{}, errors.New("clearnode.key_files is not set: name the file with the private key that closes the sessions")
	}
	signers, err := c.Signers()
	if err != nil {
		return clearnode.Config{}, err
	}
	cfg, err := c.NodeWithoutKeys()
	if err != nil {
		return cfg, err
	}
	cfg.Signers, cfg.CosignTimeout, cfg.CosignPatience, cfg.Application = signers, c.CosignTimeout, c.cosignPatience, c.nodeApplication
	return cfg, cfg.Validate()
}

// Signers are the configured keys.
func (c *Config) Signers() ([]clearnode.Signer, error) {
	var signers []clearnode.Signer
	for _, path := range c.NodeKeyFiles {
		signer, err := clearnode.LoadKeyFile(path, c.NodePasswordFile)
		if err != nil {
			return nil, fmt.Errorf("clearnode.key_files: %w", err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

// NodeWithoutKeys is the configuration of a client without keys.
func (c *Config) NodeWithoutKeys() (clearnode.Config, error) {
	cfg := clearnode.Config{
		URL: c.NodeURL, Protocol: c.NodeProtocol, RequestTimeout: c.NodeRequestTimeout,
		Connections: int(c.NodeConnections), ConnectionsMin: c.NodeConnectionsMin, ConnectionsMax: c.NodeConnectionsMax,
		MessageExpiry: c.NodeMessageExpiry, RequestValidity: c.NodeRequestValidity, FenceMargin: c.NodeFenceMargin,
		CAFile: c.NodeCAFile, RateLimit: c.NodeRateLimit, RateBurst: c.NodeRateBurst,
	}
	if c.NodeAddress != "" {
		address, err := settlement.ParseChecksummed(c.NodeAddress)
		if err != nil {
			return cfg, fmt.Errorf("clearnode.node_address: %w", err)
		}
		cfg.NodeAddress = &address
	}
	return cfg, nil
}

// Consumer is the configuration of the consumer and of the streams it creates.
func (c *Config) Consumer() consumer.Config {
	return consumer.Config{
		Prefix: c.NATSPrefix, Replicas: c.NATSReplicas, ManageStreams: c.NATSManageStreams,
		MaxBytes: consumer.MaxBytes{
			Outcomes: int64(c.NATSMaxBytes.Outcomes), DeadLetters: int64(c.NATSMaxBytes.Deadletters), Operations: int64(c.NATSMaxBytes.Operations),
		},
		Durable: c.ConsumerDurable, Workers: c.ConsumerWorkers, AckWait: c.ConsumerAckWait,
		BackoffInitial: c.ConsumerBackoffInitial, BackoffMax: c.ConsumerBackoffMax,
	}
}

// Ledger is the configuration of the ledger.
func (c *Config) Ledger() ledger.Config {
	return ledger.Config{Prefix: c.NATSPrefix, Replicas: c.NATSReplicas, Create: c.NATSManageStreams, MaxBytes: int64(c.NATSMaxBytes.Settlements), Fence: c.NodeMessageExpiry + c.NodeFenceMargin}
}

// OutcomesStream is the stream that a co-signer reads outcomes from.
func (c *Config) OutcomesStream() string {
	if c.CosignStream != "" {
		return c.CosignStream
	}
	return consumer.OutcomesStream(c.NATSPrefix)
}

// Origin is http.origin as browsers send it in the header Origin: without its path,
// in lower case, and without the scheme's own port. Empty where it is not set.
func Origin(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !ValidHost(u.Hostname()) || !ValidPort(u.Port()) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("http.origin: want http:// or https:// and a host, with or without a path, such as https://ops.example/settled")
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	host = strings.TrimSuffix(strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[scheme]), ":")
	return scheme + "://" + host, nil
}

// DefaultInboxPrefix begins the subjects that answers are received on.
const DefaultInboxPrefix = "_INBOX"

// plainToken matches a text that can be a token of a subject.
var plainToken = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// InboxPrefix is the prefix of the subjects that answers are received on:
// nats.inbox_prefix, or _INBOX_<user> for the user of nats.url.
func InboxPrefix(c *Config) string {
	if c.NATSInboxPrefix != "" {
		return c.NATSInboxPrefix
	}
	if user := URLUser(c.NATSURL); plainToken.MatchString(user) {
		return DefaultInboxPrefix + "_" + user
	}
	return DefaultInboxPrefix
}

// ValidateInboxPrefix rejects a prefix that can't begin a subject.
func (c *Config) ValidateInboxPrefix() error {
	for token := range strings.SplitSeq(c.NATSInboxPrefix, ".") {
		if c.NATSInboxPrefix != "" && !plainToken.MatchString(token) {
			return fmt.Errorf("nats.inbox_prefix: %q: want letters, digits, _ and -, such as _INBOX_operator", c.NATSInboxPrefix)
		}
	}
	return nil
}
