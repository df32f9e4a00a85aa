package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/consumer/operations"
	"settled/ledger"
)

// Versions of nats-server: the oldest supported and the one tested with.
var (
	oldestNATS = [2]int{2, 11} // knows Nats-Expected-Last-Subject-Sequence-Subject, used for the ledger's compare-and-set
	triedNATS  = [2]int{2, 15}
)

const slowNATS = 200 * time.Millisecond

// examineNATS checks what settled needs of NATS. d.NATS stays nil if it can't be reached.
func (d *Doctor) examineNATS(ctx context.Context) {
	cfg := *d.Cfg
	if cfg.Embedded {
		cfg.NATSURL = "nats://" + natsconn.Reachable(cfg.EmbeddedListen)
		if !isListening(ctx, natsconn.Reachable(cfg.EmbeddedListen)) {
			d.note("nats", "start `settled serve --embedded` and run doctor again", "the embedded server is not running: the streams were not checked")
			return
		}
	}
	link, err := natsconn.Connect(&cfg, "settled doctor", false, nats.MaxReconnects(0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		check := "nats.connect"
		if natsconn.InboxAdvice(err) != "" {
			check = "nats.rights"
		}
		d.fail(check, natsAdvice(&cfg, err), "%s", err)
		return
	}
	d.NATS = link
	d.checkServer()
	if !d.checkSubscriptions() {
		link.Close()
		d.NATS = nil
		return
	}
	switch {
	case d.Cosign:
		d.checkCosignPermissions(ctx)
		return
	case cfg.Embedded && config.URLUser(natsconn.AsOperator(&cfg).NATSURL) == "":
		d.note("nats.rights", "run doctor as the user that runs `settled serve --embedded`, with its embedded.store_dir", "the file operator.url can't be read, so the streams were not checked")
		return
	case cfg.Embedded: // no permission check: the embedded server gives settled's user all it needs
	case link.Domain != cfg.NATSDomain:
		d.fail("nats.rights", notSettled, "nats.url does not name settled's user: its account has no JetStream")
		return
	default:
		denied, settleds := d.checkPermissions()
		if !settleds || !d.CheckJetStream(ctx, denied) {
			return
		}
		d.checkCluster()
	}
	d.streamsRead = true
	d.CheckStreams(ctx)
	d.CheckLimits()
	d.checkDurable(ctx)
	d.checkStop(ctx)
	d.checkForeign(ctx)
}

// checkStop checks whether a stop is in force. If that can't be read, nothing is sent.
func (d *Doctor) checkStop(ctx context.Context) {
	if name := consumer.OperationsStream(d.Cfg.NATSPrefix); slices.Contains(d.missing, name) {
		d.note("sending", "", "no stop is in force: stream %s does not exist yet", name)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stop, err := operations.New(d.NATS.JS, d.Cfg.Consumer()).Stopped(ctx)
	switch {
	case err != nil:
		d.fail("sending", "", "sending is blocked because the stop state can't be read: %s", err)
	case stop != nil:
		d.fail("sending", "Remove the cause, then run settled resume --reason …: see All sending is stopped in deploy/RUNBOOK.md", "%s", host.StopText(stop))
	default:
		d.ok("sending", "no stop is in force")
	}
}

func isListening(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func natsAdvice(cfg *config.Config, err error) string {
	if advice := natsconn.HandshakeAdvice(err); advice != "" {
		return advice
	}
	switch text := strings.ToLower(err.Error()); {
	case natsconn.InboxAdvice(err) != "":
		return natsconn.InboxAdvice(err)
	case errors.Is(err, nats.ErrAuthorization) || strings.Contains(text, "authorization"):
		return "nats.credentials_file, nats.nkey_file, or user and password in nats.url: set the credentials of settled's user on this server"
	case strings.Contains(text, "tls") || strings.Contains(text, "certificate") || strings.Contains(text, "x509"):
		return "nats.tls.ca: the file of the CA that signed the server's certificate"
	}
	return fmt.Sprintf("nats.url: %s: start the server there, or set nats.url to a running server", config.RedactURL(cfg.NATSURL))
}

// checkServer checks the server of the connection.
func (d *Doctor) checkServer() {
	nc := d.NATS.Conn
	if rtt, err := nc.RTT(); err == nil && rtt > slowNATS {
		d.warn("nats.connect", "run settled near its NATS", "%s answers in %s, and each settlement needs at least five round trips", nc.ConnectedUrlRedacted(), rtt.Round(time.Millisecond))
	} else {
		d.ok("nats.connect", "connected to %s", nc.ConnectedUrlRedacted())
	}
	d.CheckVersion(nc.ConnectedServerVersion())
	if most := nc.MaxPayload(); most < natsconn.MinPayload {
		d.fail("nats.max_payload", "max_payload: 1MB in the server's configuration", "the server accepts at most %d bytes per message: the result of a close could be refused", most)
	}
}

func (d *Doctor) CheckVersion(text string) {
	var found [2]int
	if _, err := fmt.Sscanf(text, "%d.%d", &found[0], &found[1]); err != nil {
		d.warn("nats.version", "", "the server version %q can't be parsed", text)
		return
	}
	before := func(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }
	switch {
	case before(found, oldestNATS):
		d.fail("nats.version", fmt.Sprintf("nats-server %d.%d or later", triedNATS[0], triedNATS[1]), "nats-server %s does not support the ledger's compare-and-set: two replicas could both pay a session", text)
	case before(found, triedNATS):
		d.warn("nats.version", fmt.Sprintf("nats-server %d.%d or later", triedNATS[0], triedNATS[1]), "settled was not tested with nats-server %s", text)
	default:
		d.ok("nats.version", "nats-server %s", text)
	}
	if d.Cfg.Embedded {
		d.ok("nats.durability", "the embedded server syncs every message before it acknowledges it")
	} else {
		d.note("nats.durability", "sync_interval: always in the jetstream block of every server's configuration", "it can't be checked by a client whether the servers sync before they acknowledge")
	}
}

// CheckJetStream checks the account's JetStream and reports whether it can be used.
func (d *Doctor) CheckJetStream(ctx context.Context, denied map[string]bool) bool {
	if denied["INFO"] {
		d.note("nats.jetstream", "", "the account's storage limit can't be checked: the user has no permission for $JS.API.INFO")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := d.NATS.JS.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		d.fail("nats.jetstream", "jetstream: enabled in settled's account", "JetStream is off for this user's account")
	case err != nil && d.Cfg.NATSDomain != "":
		d.fail("nats.jetstream", "nats.domain: the domain that the streams live in", "JetStream domain %s: %s", d.Cfg.NATSDomain, err)
	case err != nil:
		d.fail("nats.jetstream", "jetstream { store_dir: … } in the server's configuration", "JetStream: %s", err)
	case info.Limits.MaxStore > 0 && info.Store > uint64(info.Limits.MaxStore)/5*4:
		d.warn("nats.jetstream", "max_file in the account's limits", "the account has used %d of %d MiB: once it is full nothing is settled", info.Store>>20, info.Limits.MaxStore>>20)
	default:
		d.ok("nats.jetstream", "enabled; %d streams, %d MiB", info.Streams, info.Store>>20)
	}
	d.account = info
	return err == nil
}

// CheckLimits compares what serve would create with the limits of the account.
func (d *Doctor) CheckLimits() {
	if d.account == nil || len(d.missing) == 0 || !d.Cfg.NATSManageStreams {
		return
	}
	limits := d.account.Limits
	if most := limits.MaxStreams; most > 0 && d.account.Streams+len(d.missing) > most {
		d.fail("nats.limits", natsconn.LimitAdvice(&jetstream.APIError{ErrorCode: natsconn.TooManyStreams}), "the account has %d streams and allows %d (max_streams), and %d are missing: %s", d.account.Streams, most, len(d.missing), strings.Join(d.missing, ", "))
	}
	wants := append(consumer.StreamConfigs(d.Cfg.Consumer()), ledger.StreamConfig(d.Cfg.Ledger()))
	for _, want := range wants {
		key := "nats.max_bytes." + strings.ToLower(strings.TrimPrefix(want.Name, strings.ToUpper(strings.ReplaceAll(d.Cfg.NATSPrefix, ".", "_"))))
		switch {
		case !slices.Contains(d.missing, want.Name):
		case limits.MaxBytesRequired && want.MaxBytes <= 0:
			d.fail("nats.limits", key+": a size in bytes", "the account requires a maximum size for each stream (max_bytes_required), and %s is not set", key)
		case limits.StoreMaxStreamBytes > 0 && want.MaxBytes > limits.StoreMaxStreamBytes:
			d.fail("nats.limits", fmt.Sprintf("%s: %d", key, limits.StoreMaxStreamBytes), "the account allows no stream of more than %d bytes (max_stream_bytes), and %s is %d", limits.StoreMaxStreamBytes, key, want.MaxBytes)
		}
	}
}

// checkCluster compares nats.replicas with the cluster.
func (d *Doctor) checkCluster() {
	name, want := d.NATS.ConnectedClusterName(), d.Cfg.NATSReplicas
	switch {
	case d.Cfg.NATSDomain != "" || d.Cfg.Embedded: // the streams are elsewhere, or alone
	case name == "" && want > 1:
		d.warn("nats.replicas", "nats.replicas: 1", "the server is in no cluster, and nats.replicas is %d: streams with %d replicas can't be created on this server", want, want)
	case name != "" && want == 1:
		d.warn("nats.replicas", "nats.replicas: 3", "the server is in cluster %s, and streams would be created with one replica: if that server is lost, the ledger is lost", name)
	case want%2 == 0:
		d.warn("nats.replicas", "nats.replicas: 3", "nats.replicas is %d: an even number tolerates no more server failures than the next lower odd number", want)
	}
}

// CheckStreams checks the four streams as serve does at its start.
func (d *Doctor) CheckStreams(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	used := ""
	for _, i := range consumer.InspectStreams(ctx, d.NATS.JS, d.Cfg.Consumer()) {
		d.checkStream(i)
		if i.Stream != nil && i.Stream.State.LastSeq > 0 && !strings.HasSuffix(i.Name, "OPERATIONS") {
			used = i.Name
		}
	}
	found, err := ledger.Inspect(ctx, d.NATS.JS, d.Cfg.Ledger())
	i := consumer.Inspection{Name: found.Name, Err: err, Dangers: found.Dangers, Warnings: found.Warnings, Stream: found.Stream}
	if err == nil && found.Stream == nil {
		i.Create = consumer.CreateCommand(ledger.StreamConfig(d.Cfg.Ledger()))
		if used != "" {
			d.missing = append(d.missing, i.Name)
			d.fail("stream."+i.Name, "restore it from a copy (nats stream restore) and start settled with --after-restore: see The ledger was lost in deploy/RUNBOOK.md", "the ledger was lost: it is missing, and %s has been used", used)
			return
		}
	}
	d.checkStream(i)
}

func (d *Doctor) checkStream(i consumer.Inspection) {
	check := "stream." + i.Name
	if i.Err == nil && i.Stream == nil {
		d.missing = append(d.missing, i.Name)
	}
	if i.Lost {
		d.warn(check, "have outcomes that have no result published again", "it was lost: the stream is missing although the ledger has entries")
	}
	d.reportInspection(check, i)
	if i.Stream != nil {
		d.checkReplicas(check, i.Stream.Cluster)
	}
}

// reportInspection reports what was found of a stream or of the durable.
func (d *Doctor) reportInspection(check string, i consumer.Inspection) {
	switch {
	case i.Err != nil:
		d.fail(check, "", "%s", i.Err)
	case i.Create != "" && !d.Cfg.NATSManageStreams:
		d.fail(check, i.Create, "it is missing, and nats.manage_streams is false")
	case i.Lost: // reported
	case i.Create != "":
		d.note(check, "", "it is missing: `settled serve` creates it")
	case len(i.Dangers) > 0:
		d.fail(check, "settled does not start until this is corrected", "%s", strings.Join(i.Dangers, "; "))
	case len(i.Warnings) > 0:
		d.warn(check, "", "%s", strings.Join(i.Warnings, "; "))
	case i.Durable != nil:
		d.ok(check, "settings are correct; %d pending, %d unacknowledged, %d pull requests", i.Durable.NumPending, i.Durable.NumAckPending, i.Durable.NumWaiting)
	default:
		d.ok(check, "settings are correct; %d messages, %d replicas", i.Stream.State.Msgs, i.Stream.Config.Replicas)
	}
}

// checkReplicas checks whether all servers of a stream are up.
func (d *Doctor) checkReplicas(check string, c *jetstream.ClusterInfo) {
	if c == nil {
		return
	}
	if c.Leader == "" {
		d.fail(check, "start the servers that are down", "it has no leader: nothing can be read or written")
	}
	for _, r := range c.Replicas {
		if r.Offline || !r.Current {
			d.warn(check, "start the server, or read its log", "its replica on %s is offline or behind", r.Name)
		}
	}
}

// checkDurable checks the consumer that all replicas share.
func (d *Doctor) checkDurable(ctx context.Context) {
	check := "consumer." + d.Cfg.ConsumerDurable
	if slices.Contains(d.missing, consumer.OutcomesStream(d.Cfg.NATSPrefix)) {
		d.skip(check, "its stream is missing")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d.reportInspection(check, consumer.InspectDurable(ctx, d.NATS.JS, d.Cfg.Consumer()))
}
