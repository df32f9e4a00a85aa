package doctor

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

const (
	clockTolerance = 2 * time.Second // in addition to the error of the measurement
	mostV1Lines    = 50              // connections that a nitronode accepts from one address
)

// examineNode checks what settled needs of the ClearNode, on one connection.
func (d *Doctor) examineNode(ctx context.Context) {
	sound := *d.Cfg
	sound.NodeKeyFiles = d.keyFiles
	cfg, err := sound.Node()
	switch {
	case d.Cfg.NodeURL == "":
		d.fail("node.connect", "clearnode.url: wss://clearnode.example/ws", "clearnode.url is not set")
		return
	case len(d.signers) == 0:
		d.skip("node.connect", "no key to sign in with")
		return
	case err != nil:
		d.fail("node.connect", "", "%s", err)
		return
	}
	x, err := clearnode.Diagnose(ctx, cfg)
	if err != nil {
		d.fail("node.connect", "clearnode.url: the node's websocket; is the node running?", "%s", err)
		return
	}
	defer x.Close()
	d.ok("node.connect", "connected to %s", config.RedactURL(d.Cfg.NodeURL))
	d.checkProtocol(x)
	d.checkTransport(x)
	shown, same := d.checkNodeAddress(ctx, x, cfg.NodeAddress)
	if !same || !d.checkSignIn(ctx, x) {
		return
	}
	if !shown {
		_, same = d.checkNodeAddress(ctx, x, cfg.NodeAddress)
	}
	if same {
		d.beyondSignIn(ctx, x)
	}
}

// beyondSignIn runs the checks that require a sign-in.
func (d *Doctor) beyondSignIn(ctx context.Context, x *clearnode.Diagnosis) {
	d.checkClock(ctx, x)
	d.checkExpiry(ctx, x)
	d.checkRate(x)
	d.checkLimitAssets(ctx, x)
	if !d.Cosign { // a co-signer has no ledger to compare with
		d.checkUnknownCloses(ctx, x)
	}
	if d.Session != "" {
		d.checkSession(ctx, x)
	}
}

func (d *Doctor) checkProtocol(x *clearnode.Diagnosis) {
	line := "clearnode.protocol: " + x.Protocol()
	switch {
	case !x.SameProtocol(d.Cfg.NodeProtocol):
		d.fail("node.protocol", "if this is the right node, set "+line+"; otherwise correct clearnode.url", "the node speaks %s, and %s is configured", x.Protocol(), d.Cfg.NodeProtocol)
	case d.Cfg.NodeProtocol == "auto":
		d.note("node.protocol", line, "the node speaks %s; in production set clearnode.protocol", x.Protocol())
	default:
		d.ok("node.protocol", "the node speaks %s", x.Protocol())
	}
}

// checkTransport warns of ws://, over which others can read the messages, and forge the
// answers of a node that signs none.
func (d *Doctor) checkTransport(x *clearnode.Diagnosis) {
	u, err := url.Parse(d.Cfg.NodeURL)
	if err != nil || u.Scheme != "ws" {
		return
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	switch {
	case host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsPrivate()):
	case !x.Signed():
		d.warn("node.transport", "clearnode.url: wss://"+u.Host+u.Path, "the node does not sign answers, and with ws:// anyone on the network path can forge them")
	default:
		d.note("node.transport", "clearnode.url: wss://"+u.Host+u.Path, "ws:// is not encrypted")
	}
}

// checkNodeAddress compares the node's address, if it is known already, with the pinned one. It
// runs before the sign-in, since our key must not sign for another node.
func (d *Doctor) checkNodeAddress(ctx context.Context, x *clearnode.Diagnosis, pinned *settlement.Address) (shown, same bool) {
	address, known, err := x.Address(ctx)
	line := fmt.Sprintf("clearnode.node_address: %q", address)
	switch {
	case err != nil:
		d.fail("node.address", "", "the node doesn't answer: %s", err)
		return false, false
	case !known:
		return false, true
	case pinned == nil:
		d.warn("node.address", line, "clearnode.node_address is not set: the address that signs the first answer is trusted")
	case *pinned != address:
		d.fail("node.address", "if this is the right node, set "+line+"; otherwise correct clearnode.url", "the node's address is %s, but clearnode.node_address is %s", address, *pinned)
		return true, false
	default:
		d.ok("node.address", "%s, as configured", address)
	}
	return true, true
}

func (d *Doctor) checkSignIn(ctx context.Context, x *clearnode.Diagnosis) bool {
	useless, err := x.SignIn(ctx)
	switch {
	case err != nil && strings.Contains(err.Error(), "clearnode.node_address"):
		d.fail("node.sign_in", "clearnode.node_address: the node's own", "%s", err)
	case err != nil:
		d.fail("node.sign_in", "clearnode.key_files: check the first key: it signs in; see the node's error", "sign-in of %s refused: %s", d.addresses()[0], err)
	case !x.Signed():
		d.ok("node.sign_in", "no sign-in needed")
	default:
		d.ok("node.sign_in", "signed in as %s", d.addresses()[0])
	}
	for _, a := range useless {
		d.fail("node.sign_in", fmt.Sprintf("have the node's operator remove the row of %s from the table session_keys, and restart the node", a), "another wallet registered %s as its session key: the node ignores this account's signatures", a)
	}
	return err == nil
}

// checkClock compares the two clocks. settled uses the node's clock, so a difference is safe
// for payments, but ledger times are wrong.
func (d *Doctor) checkClock(ctx context.Context, x *clearnode.Diagnosis) {
	ahead, within, err := x.Clock(ctx)
	switch {
	case err != nil:
		d.fail("node.clock", "", "the node doesn't answer: %s", err)
	case ahead.Abs() > clockTolerance+within:
		d.warn("node.clock", "run NTP (chrony, systemd-timesyncd) on this machine and at the node", "the node's clock is %s ours", aheadOf(ahead))
	default:
		d.ok("node.clock", "the clocks agree within %s", (ahead.Abs() + within).Round(time.Millisecond))
	}
}

func aheadOf(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%s behind", (-d).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s ahead of", d.Round(time.Millisecond))
}

// checkExpiry compares the measured message expiry with the configured one. The fence depends
// on it.
func (d *Doctor) checkExpiry(ctx context.Context, x *clearnode.Diagnosis) {
	e, err := x.Expiry(ctx)
	line := fmt.Sprintf("clearnode.message_expiry: %s", e.Actual)
	if e.Actual > 0 && e.Actual <= d.Cfg.NodeRequestValidity {
		line += fmt.Sprintf(", and clearnode.request_validity: %s", max(e.Actual/3, time.Second))
	}
	switch {
	case err != nil:
		d.fail("node.message_expiry", "", "it could not be probed: %s", err)
	case e.None:
		d.ok("node.message_expiry", "requests don't expire; the session's version invalidates old ones")
	case e.Actual == 0:
		d.fail("node.message_expiry", "set MSG_EXPIRY_TIME at the node", "the node accepts requests that are more than a day old, but clearnode.message_expiry is %s", d.Cfg.NodeMessageExpiry)
	case e.Wrong != nil:
		d.fail("node.message_expiry", line, "%s", e.Wrong)
	case (e.Actual - d.Cfg.NodeMessageExpiry).Abs() > time.Second:
		d.warn("node.message_expiry", line, "the node's is %s, and %s is configured", e.Actual, d.Cfg.NodeMessageExpiry)
	default:
		d.ok("node.message_expiry", "%s, as configured", d.Cfg.NodeMessageExpiry)
	}
}

// checkLimitAssets compares the limits with the assets that the node lists.
func (d *Doctor) checkLimitAssets(ctx context.Context, x *clearnode.Diagnosis) {
	if !slices.ContainsFunc(d.Cfg.Limits, func(l settlement.Limit) bool { return l.Asset != "" }) {
		return
	}
	assets, err := x.Assets(ctx)
	unlisted := d.Cfg.Limits.Unlisted(assets)
	switch {
	case err != nil:
		d.fail("node.limits", "", "the node's assets are not known: %s", err)
	case len(assets) == 0:
		d.note("node.limits", "", "the node lists no assets: the limits are checked when a session is settled")
	case unlisted != nil:
		d.fail("node.limits", fmt.Sprintf("limits: name assets as the node lists them: %q", assets), "%s; nothing is sent", unlisted)
	default:
		d.ok("node.limits", "each limit matches an asset of the node")
	}
}

func (d *Doctor) checkRate(x *clearnode.Diagnosis) {
	ours, allowed := x.FramesPerSecond()
	most := d.Cfg.MostNodeConnections()
	connections := fmt.Sprint(most)
	if d.Cfg.NodeConnections == 0 {
		connections = "up to " + connections
	}
	switch {
	case allowed > 0 && ours > allowed:
		d.warn("node.rate", "clearnode.rate_limit: 0", "%g frames a second are configured, and the node resets a connection above %g", ours, allowed)
	case !x.Signed() && most > mostV1Lines:
		key := "clearnode.connections"
		if d.Cfg.NodeConnections == 0 {
			key = "clearnode.connections_max"
		}
		d.warn("node.rate", fmt.Sprintf("%s: %d", key, mostV1Lines), "%d connections are configured, and the node accepts about %d connections from one address", most, mostV1Lines)
	case allowed == 0 && ours == 0:
		d.ok("node.rate", "no limit on this generation of node; %s connections", connections)
	default:
		d.ok("node.rate", "%g frames a second on each of %s connections", ours, connections)
	}
}
