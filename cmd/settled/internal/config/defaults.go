package config

import "strings"

// Key is one configuration key: its name in the file, where its value goes, its
// default as text, and what it means, for the sample configuration and --help.
type Key struct {
	Name    string
	value   any // *string, *[]string, *bool, *int, *AutoInt, *float64 or *time.Duration
	Default string
	Help    string
}

// envVariable is the key's environment variable.
func (k Key) envVariable() string {
	return "SETTLED_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys is the table of all scalar and list keys; policies and limits stand in
// the file only.
func (c *Config) Keys() []Key {
	return []Key{
		{"nats.url", &c.NATSURL, "nats://127.0.0.1:4222", "NATS server, or several separated by commas."},
		{"nats.prefix", &c.NATSPrefix, "", "Put before every subject and, in upper case, every stream name: \"prod.\" gives prod.outcome.* and PROD_OUTCOMES."},
		{"nats.domain", &c.NATSDomain, "", "JetStream domain, where the streams live behind a leaf node. Unset: the account's own; settled's commands use \"ledger\" where the account has no JetStream, as deploy/nats has it."},
		{"nats.credentials_file", &c.NATSCredentialsFile, "", "User credentials (.creds)."},
		{"nats.nkey_file", &c.NATSNKeyFile, "", "NKey seed file, instead of credentials."},
		{"nats.inbox_prefix", &c.NATSInboxPrefix, "", "Subject prefix that answers are received on. Unset: _INBOX_<user> for a user named in nats.url, as deploy/nats permits it, else _INBOX. Set it for users with credentials or an NKey, or where the server permits another one."},
		{"nats.tls.ca", &c.NATSCAFile, "", "CA certificates (PEM) that the server's certificate is checked against."},
		{"nats.tls.cert", &c.NATSCertFile, "", "Client certificate (PEM)."},
		{"nats.tls.key", &c.NATSKeyFile, "", "The client certificate's key (PEM)."},
		{"nats.tls.first", &c.NATSTLSFirst, "false", "Begin the TLS handshake before the server says anything, as servers with handshake_first: true want it."},
		{"nats.replicas", &c.NATSReplicas, "1", "Replicas of the streams that are created. 3 in production."},
		{"nats.manage_streams", &c.NATSManageStreams, "true", "Create the streams and the consumer that are missing. Existing ones are never changed. false: only verify them."},
		{"nats.max_bytes.outcomes", &c.NATSMaxBytes.Outcomes, "0", "Size in bytes of the stream of outcomes, where settled creates it. Managed accounts often require one. 0: no limit. A full stream refuses messages; it drops none."},
		{"nats.max_bytes.settlements", &c.NATSMaxBytes.Settlements, "0", "Likewise of the ledger. It counts before compression: about 5 KB for each session. Nothing is settled while it is full."},
		{"nats.max_bytes.deadletters", &c.NATSMaxBytes.Deadletters, "0", "Likewise of the dead letters."},
		{"nats.max_bytes.operations", &c.NATSMaxBytes.Operations, "0", "Likewise of the record of operations."},
		{"nats.state_dir", &c.NATSStateDir, "", "Where serve remembers, outside NATS, the last ledger entry that it knows, so that it notices a store that was restored from an older copy while it was stopped. Unset: $STATE_DIRECTORY, $XDG_STATE_HOME/settled or ~/.local/state/settled. none: nowhere."},
		{"embedded.enabled", &c.Embedded, "false", "Run on a JetStream server inside this process instead of nats.url. One machine, no cluster."},
		{"embedded.store_dir", &c.EmbeddedStoreDir, "./data", "Where the embedded server keeps the streams: the ledger. Back it up."},
		{"embedded.listen", &c.EmbeddedListen, "127.0.0.1:4222", "Where the embedded server takes NATS clients. Without passwords (UPSTREAM_PASSWORD, DASHBOARD_PASSWORD, OPERATOR_PASSWORD in the environment) only on loopback, and then clients without credentials may publish outcomes and receive results."},
		{"clearnode.url", &c.NodeURL, "", "The ClearNode's WebSocket, such as wss://clearnode.example/ws. Needed by serve and cosign."},
		{"clearnode.protocol", &c.NodeProtocol, "auto", "auto, nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1. auto finds out by asking."},
		{"clearnode.key_files", &c.NodeKeyFiles, "", "Files with the private keys that sign the closes (hex, or keystore files); mode 0600, or 0440 where root owns them, as in a Kubernetes Secret with fsGroup. The first one signs in. Needed by serve and cosign."},
		{"clearnode.password_file", &c.NodePasswordFile, "", "File with the password of the keystore files among them; mode 0600."},
		{"clearnode.connections", &c.NodeConnections, "8", "Connections to the node, or auto: as many as make it faster, by the times of its answers. It handles the requests of one connection one after the other. At most 4 closes for each connection are in flight, and so in doubt after a crash."},
		{"clearnode.connections_min", &c.NodeConnectionsMin, "1", "The fewest connections with auto. So many closes may be in flight at the start."},
		{"clearnode.connections_max", &c.NodeConnectionsMax, "8", "The most connections with auto. A nitronode accepts about 50 from one address, of all replicas there."},
		{"clearnode.rate_limit", &c.NodeRateLimit, "0", "Frames a second that one connection sends at most. 0: as the node's generation allows (10 on nitronode, no limit on others)."},
		{"clearnode.rate_burst", &c.NodeRateBurst, "0", "How many at once after a silence. 0: likewise."},
		{"clearnode.application", &c.nodeApplication, "settled", "Application that a sign-in names, where the node's generation has sign-ins."},
		{"clearnode.request_timeout", &c.NodeRequestTimeout, "10s", "How long a call waits for its answer."},
		{"clearnode.node_address", &c.NodeAddress, "", "Address that signs the node's answers. Pin it in production; without it the first answer's signer is believed."},
		{"clearnode.message_expiry", &c.NodeMessageExpiry, "60s", "How old a request the node accepts. Must equal the node's own setting; it is probed, and nothing is sent where it differs."},
		{"clearnode.request_validity", &c.NodeRequestValidity, "20s", "How long the node accepts a request of ours: its timestamp is older than the node's clock by message_expiry less this. Shorter means less waiting after a lost answer."},
		{"clearnode.fence_margin", &c.NodeFenceMargin, "20s", "Longer than the node works on a request after it took it, plus the error of its clock. Too short pays twice."},
		{"clearnode.tls.ca", &c.NodeCAFile, "", "CA certificates (PEM) that the node's certificate is checked against. Unset: those that the machine trusts."},
		{"cosign.enabled", &c.CosignEnabled, "true", "Whether serve asks other parties for signatures. false: an outcome whose session needs more than our keys, and the signatures in it, fails at once with quorum_not_reached."},
		{"cosign.patience", &c.cosignPatience, "10m", "How long nobody may answer on cosign.<address> before an outcome that needs that signature fails with quorum_not_reached. Any answer, also that it waits, restarts the period, and so does a restart of serve. 0s: at once, where nobody listens."},
		{"cosign.timeout", &c.CosignTimeout, "3s", "How long serve waits for other parties' signatures where its own keys don't reach a session's quorum (at most half of clearnode.request_validity, but on nitronode), and how long cosign takes to answer."},
		{"cosign.outcomes_stream", &c.CosignStream, "", "Stream that cosign reads outcomes from. Unset: OUTCOMES, with the prefix; name a mirror here that is called otherwise."},
		{"consumer.durable", &c.ConsumerDurable, "settled", "Name of the durable consumer that all replicas share."},
		{"consumer.workers", &c.ConsumerWorkers, "64", "Sessions settled at the same time by this process."},
		{"consumer.ack_wait", &c.ConsumerAckWait, "30s", "After how long without a sign of life an outcome goes to another replica."},
		{"consumer.max_attempts", &c.ConsumerMaxAttempts, "8", "Closes sent for one outcome before it fails with attempts_exhausted."},
		{"consumer.backoff.initial", &c.ConsumerBackoffInitial, "500ms", "First delay before an outcome that waits is looked at again; it doubles."},
		{"consumer.backoff.max", &c.ConsumerBackoffMax, "2m", "Longest such delay."},
		{"http.listen", &c.HTTPListen, "127.0.0.1:8090", "Where the dashboard, /healthz, /readyz and /metrics are served. Whoever reaches it can read."},
		{"http.origin", &c.HTTPOrigin, "", "Where browsers open the dashboard behind a proxy, such as https://ops.example/settled: pages from there may replay and discard, and this host name is answered."},
		{"http.token_file", &c.HTTPTokenFile, "", "File with the token for replaying and discarding from the dashboard; mode 0600, at least 16 characters. Unset: nothing can be changed there."},
		{"http.pprof", &c.HTTPProfiles, "false", "Serve the profiles of net/http/pprof at /debug/pprof/, for go tool pprof. Only where http.listen is a loopback address."},
		{"trust.outcome_signers", &c.TrustOutcomeSigners, "", "Accounts one of which must have signed an outcome (header Settled-Signature). None: whoever may publish is believed."},
		{"log.level", &c.LogLevel, "info", "debug, info, warn or error."},
		{"log.format", &c.LogFormat, "", "console or json. Unset: console on a terminal, else json."},
	}
}
