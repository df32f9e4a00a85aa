package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"settled/settlement"
)

// config is everything that can be configured. The table in keys.go says what
// each member means and its default.
type config struct {
	refusals *natsRefusals // what NATS denies to a command goes there; nil: nowhere

	natsURL, natsPrefix, natsDomain   string
	natsCredentials, natsNKey         string
	natsInbox                         string
	natsCA, natsCert, natsCertKey     string
	natsReplicas                      int
	natsManageStreams, natsTLSFirst   bool
	natsMaxBytes                      maxBytes
	natsStateDir                      string
	afterRestore                      bool // serve --after-restore
	embedded                          bool
	embeddedStoreDir, embeddedListen  string
	nodeURL, nodeProtocol             string
	nodeKeyFiles                      []string
	nodePasswordFile                  string
	nodeConnections                   int
	nodeRateLimit                     float64
	nodeRateBurst                     int
	nodeApplication                   string
	nodeRequestTimeout                time.Duration
	nodeAddress                       string
	nodeExpiry, nodeValidity          time.Duration
	nodeMargin                        time.Duration
	nodeCA                            string
	cosignEnabled                     bool
	cosignTimeout, cosignPatience     time.Duration
	cosignStream                      string
	consumerDurable                   string
	consumerWorkers                   int
	consumerAckWait                   time.Duration
	consumerMaxAttempts               int
	consumerBackoff, consumerBackoffM time.Duration
	httpListen, httpOrigin            string
	httpTokenFile                     string
	trustSigners                      []string
	logLevel, logFormat               string

	policies  settlement.Policies
	overrides []string // scenarios whose policy comes from the file
	limits    settlement.Limits
}

// maxBytes are the sizes of the streams that settled creates; 0 is no limit.
type maxBytes struct{ outcomes, settlements, deadletters, operations int }

// leastBytes is how large a stream with a limit is at least: it must hold several of
// the largest messages.
const leastBytes = 8 << 20

// check refuses sizes that hold next to nothing.
func (m maxBytes) check() error {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"outcomes", m.outcomes}, {"settlements", m.settlements}, {"deadletters", m.deadletters}, {"operations", m.operations}} {
		if size.bytes != 0 && size.bytes < leastBytes {
			return fmt.Errorf("nats.max_bytes.%s: %d: want at least %d bytes, or 0 for no limit", size.name, size.bytes, leastBytes)
		}
	}
	return nil
}

// load reads file, environment and flags; the later wins. Warnings are for the
// caller to show: nothing wrong, but probably not meant.
func (p *program) load(cmd *cobra.Command) (config, []string, error) {
	c := config{refusals: &p.refusals}
	if flag := cmd.Flags().Lookup("config"); flag != nil && flag.Changed && p.configFile == "" {
		return c, nil, errors.New("--config: it names no file: leave it out, or name one")
	}
	for _, name := range fileOnly {
		if variable := (key{name: name}).variable(); os.Getenv(variable) != "" {
			return c, nil, fmt.Errorf("%s: %s can stand in the configuration file only", variable, name)
		}
	}
	file, err := readConfigFile(p.configFile)
	if err != nil {
		return c, nil, err
	}
	v, err := newViper(cmd, file)
	if err != nil {
		return c, nil, err
	}
	for _, k := range c.keys() {
		if err := k.set(v.Get(k.name)); err != nil {
			return c, nil, fmt.Errorf("%s%s: %w", k.origin(cmd, file), k.name, err)
		}
	}
	if c.policies, c.overrides, err = file.policies(); err != nil {
		return c, nil, err
	}
	if c.limits, err = file.limits(c.policies); err != nil {
		return c, nil, err
	}
	return c, unknownVariables(c.keys(), os.Environ()), c.check()
}

// origin is where the key's value comes from, for the beginning of a message.
func (k key) origin(cmd *cobra.Command, file configFile) string {
	if flag := cmd.Flags().Lookup(k.name); flag != nil && flag.Changed {
		return "--"
	}
	if os.Getenv(k.variable()) != "" {
		return k.variable() + ": "
	}
	return file.where(k.name)
}

// newViper merges the sources of every key.
func newViper(cmd *cobra.Command, file configFile) (*viper.Viper, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	// The text that was checked: a pipe can be read only once.
	if err := v.ReadConfig(bytes.NewReader(file.text)); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for _, k := range new(config).keys() {
		v.SetDefault(k.name, k.fallback)
		if err := v.BindEnv(k.name, k.variable()); err != nil {
			return nil, err
		}
		if flag := cmd.Flags().Lookup(k.name); flag != nil {
			if err := v.BindPFlag(k.name, flag); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// addConfigFlags makes a flag of every scalar key. They are hidden from --help,
// for there are many; `settled config print` shows them.
func addConfigFlags(flags *pflag.FlagSet) {
	for _, k := range new(config).keys() {
		flags.String(k.name, k.fallback, k.help)
		_ = flags.MarkHidden(k.name)
		if _, boolean := k.value.(*bool); boolean {
			flags.Lookup(k.name).NoOptDefVal = "true"
		}
	}
}

// unknownVariables warns of SETTLED_ variables that no key reads.
func unknownVariables(keys []key, environ []string) []string {
	var warnings []string
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.variable()
	}
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		// SETTLED_PASSWORD is nats-server's: deploy/nats/settled.conf reads it.
		if strings.HasPrefix(name, "SETTLED_") && name != "SETTLED_PASSWORD" && !slices.Contains(names, name) {
			warnings = append(warnings, fmt.Sprintf("environment variable %s is unknown and has no effect; the nearest is %s", name, nearest(name, names)))
		}
	}
	return warnings
}

// protocols are the generations of node that there are.
var protocols = []string{"auto", "nitrorpc/legacy", "nitrorpc/0.2", "nitrorpc/0.4", "nitronode/v1"}

// check refuses what can't work, whichever command runs.
func (c *config) check() error {
	switch {
	case !slices.Contains(protocols, c.nodeProtocol):
		return fmt.Errorf("clearnode.protocol: %q is unknown: want %s", c.nodeProtocol, strings.Join(protocols, ", "))
	case c.nodeRateLimit < 0 || c.nodeRateBurst < 0:
		return errors.New("clearnode.rate_limit and clearnode.rate_burst: want 0, which is what the node's generation allows, or more")
	case c.consumerMaxAttempts < 1:
		return errors.New("consumer.max_attempts: want at least 1")
	case !slices.Contains([]string{"", "console", "json"}, c.logFormat):
		return fmt.Errorf("log.format: %q is unknown: want console or json", c.logFormat)
	case c.embedded && c.natsReplicas > 1:
		return errors.New("nats.replicas: an embedded server keeps one replica: leave it 1, or run a NATS cluster")
	}
	if c.natsDomain != "" && !plainToken.MatchString(c.natsDomain) {
		return fmt.Errorf("nats.domain: %q: want letters, digits, _ and -, such as ledger", c.natsDomain)
	}
	if strings.ContainsAny(c.cosignStream, " \t.*>/\\") {
		return fmt.Errorf("cosign.outcomes_stream: %q: want the name of a stream, without spaces, dots, *, >, / and \\", c.cosignStream)
	}
	for _, count := range []struct {
		name  string
		value int
	}{{"consumer.workers", c.consumerWorkers}, {"clearnode.connections", c.nodeConnections}, {"nats.replicas", c.natsReplicas}} {
		if count.value < 1 {
			return fmt.Errorf("%s: %d: want at least 1", count.name, count.value)
		}
	}
	if err := c.checkInbox(); err != nil {
		return err
	}
	if _, err := c.outcomeSigners(); err != nil {
		return err
	}
	if err := c.natsMaxBytes.check(); err != nil {
		return err
	}
	if _, err := publicOrigin(c.httpOrigin); err != nil {
		return err
	}
	return c.consumerConfig(nil).Validate()
}

// nearest is the name that is fewest changes away.
func nearest(name string, names []string) string {
	best, least := "", 1<<30
	for _, candidate := range names {
		if d := distance(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of letters to change, add or leave out (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
