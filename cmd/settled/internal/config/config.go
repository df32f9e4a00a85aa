package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"settled/settlement"
	"settled/settlement/spelling"
)

// Config is the configuration. The table in defaults.go has the meaning and the default
// of each member.
type Config struct {
	NATSObserver natsObserver // of errors of a command's connection; may be nil

	NATSURL, NATSPrefix, NATSDomain            string
	NATSCredentialsFile, NATSNKeyFile          string
	NATSInboxPrefix                            string
	NATSCAFile, NATSCertFile, NATSKeyFile      string
	NATSReplicas                               int
	NATSManageStreams, NATSTLSFirst            bool
	NATSMaxBytes                               MaxBytes
	NATSStateDir                               string
	AfterRestore                               bool // serve --after-restore
	Embedded                                   bool
	EmbeddedStoreDir, EmbeddedListen           string
	NodeURL, NodeProtocol                      string
	NodeKeyFiles                               []string
	NodePasswordFile                           string
	NodeConnections                            AutoInt
	NodeConnectionsMin, NodeConnectionsMax     int
	NodeRateLimit                              float64
	NodeRateBurst                              int
	nodeApplication                            string
	NodeRequestTimeout                         time.Duration
	NodeAddress                                string
	NodeMessageExpiry, NodeRequestValidity     time.Duration
	NodeFenceMargin                            time.Duration
	NodeCAFile                                 string
	CosignEnabled                              bool
	CosignTimeout, cosignPatience              time.Duration
	CosignStream                               string
	ConsumerDurable                            string
	ConsumerWorkers                            int
	ConsumerAckWait                            time.Duration
	ConsumerMaxAttempts                        int
	ConsumerBackoffInitial, ConsumerBackoffMax time.Duration
	HTTPListen, HTTPOrigin                     string
	HTTPTokenFile                              string
	HTTPProfiles                               bool
	TrustOutcomeSigners                        []string
	LogLevel, LogFormat                        string

	Policies  settlement.Policies
	overrides []string // scenarios whose policy comes from the file
	Limits    settlement.Limits
}

// natsObserver observes what NATS denies to a command, and its JetStream domain.
type natsObserver interface {
	HandleError(*nats.Conn, *nats.Subscription, error)
	SetDomain(domain string)
}

// MaxBytes are the sizes of the streams that settled creates; 0 is no limit.
type MaxBytes struct{ Outcomes, Settlements, Deadletters, Operations int }

// minStreamBytes is the least limit of a stream: several of the largest messages.
const minStreamBytes = 8 << 20

// Validate rejects sizes that are too small.
func (m MaxBytes) Validate() error {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"outcomes", m.Outcomes}, {"settlements", m.Settlements}, {"deadletters", m.Deadletters}, {"operations", m.Operations}} {
		if size.bytes != 0 && size.bytes < minStreamBytes {
			return fmt.Errorf("nats.max_bytes.%s: %d: want at least %d bytes, or 0 for no limit", size.name, size.bytes, minStreamBytes)
		}
	}
	return nil
}

// Load reads file, environment and flags; the later wins. Warnings are about what is
// valid and probably not intended.
func Load(cmd *cobra.Command, path string) (Config, []string, error) {
	var c Config
	if flag := cmd.Flags().Lookup("config"); flag != nil && flag.Changed && path == "" {
		return c, nil, errors.New("--config: it names no file: leave it out, or name one")
	}
	for _, name := range fileOnly {
		if variable := (Key{Name: name}).envVariable(); os.Getenv(variable) != "" {
			return c, nil, fmt.Errorf("%s: %s can stand in the configuration file only", variable, name)
		}
	}
	file, err := readConfigFile(path)
	if err != nil {
		return c, nil, err
	}
	v, err := newViper(cmd, file)
	if err != nil {
		return c, nil, err
	}
	for _, k := range c.Keys() {
		if err := k.Set(v.Get(k.Name)); err != nil {
			return c, nil, fmt.Errorf("%s%s: %w", k.origin(cmd, file), k.Name, err)
		}
	}
	if c.Policies, c.overrides, err = file.policies(); err != nil {
		return c, nil, err
	}
	if c.Limits, err = file.limits(c.Policies); err != nil {
		return c, nil, err
	}
	return c, unknownVariables(c.Keys(), os.Environ()), c.Validate()
}

// origin returns where the key's value comes from, as the prefix of a message.
func (k Key) origin(cmd *cobra.Command, file configFile) string {
	if flag := cmd.Flags().Lookup(k.Name); flag != nil && flag.Changed {
		return "--"
	}
	if os.Getenv(k.envVariable()) != "" {
		return k.envVariable() + ": "
	}
	return file.position(k.Name)
}

// newViper merges the sources of all keys.
func newViper(cmd *cobra.Command, file configFile) (*viper.Viper, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	// The text that was validated: a pipe can be read only once.
	if err := v.ReadConfig(bytes.NewReader(file.text)); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for _, k := range new(Config).Keys() {
		v.SetDefault(k.Name, k.Default)
		if err := v.BindEnv(k.Name, k.envVariable()); err != nil {
			return nil, err
		}
		if flag := cmd.Flags().Lookup(k.Name); flag != nil {
			if err := v.BindPFlag(k.Name, flag); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// AddFlags adds a flag for every key of the table. They are hidden from --help because they
// are many; `settled config print` lists them.
func AddFlags(flags *pflag.FlagSet) {
	for _, k := range new(Config).Keys() {
		flags.String(k.Name, k.Default, k.Help)
		_ = flags.MarkHidden(k.Name)
		if _, boolean := k.value.(*bool); boolean {
			flags.Lookup(k.Name).NoOptDefVal = "true"
		}
	}
}

// unknownVariables warns of SETTLED_ variables that no key reads.
func unknownVariables(keys []Key, environ []string) []string {
	var warnings []string
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.envVariable()
	}
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		// SETTLED_PASSWORD is nats-server's: deploy/nats/settled.conf reads it.
		if strings.HasPrefix(name, "SETTLED_") && name != "SETTLED_PASSWORD" && !slices.Contains(names, name) {
			warnings = append(warnings, fmt.Sprintf("environment variable %s is unknown and has no effect; the nearest is %s", name, spelling.Nearest(name, names)))
		}
	}
	return warnings
}

// MostNodeConnections is how many connections to the node there may be.
func (c *Config) MostNodeConnections() int {
	if c.NodeConnections > 0 {
		return int(c.NodeConnections)
	}
	return c.NodeConnectionsMax
}

// protocols are the values of clearnode.protocol.
var protocols = []string{"auto", "nitrorpc/legacy", "nitrorpc/0.2", "nitrorpc/0.4", "nitronode/v1"}

// Validate rejects what is invalid for every command.
func (c *Config) Validate() error {
	switch {
	case !slices.Contains(protocols, c.NodeProtocol):
		return fmt.Errorf("clearnode.protocol: %q is unknown: want %s", c.NodeProtocol, strings.Join(protocols, ", "))
	case c.NodeRateLimit < 0 || c.NodeRateBurst < 0:
		return errors.New("clearnode.rate_limit and clearnode.rate_burst: want 0, which is what the node's generation allows, or more")
	case c.NodeConnectionsMin > c.NodeConnectionsMax:
		return fmt.Errorf("clearnode.connections_min: %d is more than clearnode.connections_max (%d): lower it, or raise that", c.NodeConnectionsMin, c.NodeConnectionsMax)
	case c.ConsumerMaxAttempts < 1:
		return errors.New("consumer.max_attempts: want at least 1")
	case !slices.Contains([]string{"", "console", "json"}, c.LogFormat):
		return fmt.Errorf("log.format: %q is unknown: want console or json", c.LogFormat)
	case c.Embedded && c.NATSReplicas > 1:
		return errors.New("nats.replicas: an embedded server keeps one replica: leave it 1, or run a NATS cluster")
	}
	if c.NATSDomain != "" && !plainToken.MatchString(c.NATSDomain) {
		return fmt.Errorf("nats.domain: %q: want letters, digits, _ and -, such as ledger", c.NATSDomain)
	}
	if strings.ContainsAny(c.CosignStream, " \t.*>/\\") {
		return fmt.Errorf("cosign.outcomes_stream: %q: want the name of a stream, without spaces, dots, *, >, / and \\", c.CosignStream)
	}
	for _, count := range []struct {
		name  string
		value int
	}{{"consumer.workers", c.ConsumerWorkers}, {"clearnode.connections_min", c.NodeConnectionsMin}, {"nats.replicas", c.NATSReplicas}} {
		if count.value < 1 {
			return fmt.Errorf("%s: %d: want at least 1", count.name, count.value)
		}
	}
	if err := c.ValidateInboxPrefix(); err != nil {
		return err
	}
	if _, err := c.outcomeSigners(); err != nil {
		return err
	}
	if err := c.NATSMaxBytes.Validate(); err != nil {
		return err
	}
	if _, err := Origin(c.HTTPOrigin); err != nil {
		return err
	}
	return c.Consumer().Validate()
}
