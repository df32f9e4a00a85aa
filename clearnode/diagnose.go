package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Diagnosis examines a node step by step, on one connection of its own, to find out what is
// wrong before money has to move. It enforces nothing: the caller compares what it finds with
// the configuration. It closes no session, and signs in as a Client does.
type Diagnosis struct {
	client *Client
	conn   *conn
	stop   context.CancelFunc
	wait   func()
}

// Diagnose connects to the node that the configuration names and finds out which protocol it
// speaks. Protocol and NodeAddress of the configuration are not enforced, except at a legacy
// node, which shows its address only after sign-in. The error says what keeps us from the
// node. Close ends it.
func Diagnose(ctx context.Context, cfg Config) (*Diagnosis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	pinned := cfg.NodeAddress
	cfg.Protocol, cfg.NodeAddress, cfg.Connections, cfg.SessionKeyLife = protocolAuto, nil, 1, time.Minute
	client, err := New(cfg)
	if err != nil {
		return nil, err
	}
	client.settings.Application = client.cfg.Application + "/doctor" // one row at the node, however often this is done
	c, err := client.connectors[0].dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", publicURL(client.url), err)
	}
	if client.generation == legacy.Protocol && pinned != nil {
		client.node = pinned
	}
	x := &Diagnosis{client: client, conn: c}
	ctx, x.stop = context.WithCancel(ctx)
	client.pool.setRunning(true)
	x.wait = c.serve(ctx)
	return x, nil
}

// Close ends the connection and waits for its goroutines.
func (x *Diagnosis) Close() {
	x.stop()
	x.wait()
	x.client.pool.remove(x.conn)
}

// Protocol is what the node speaks, as Config.Protocol names it. NitroRPC 0.2 and 0.4 are
// one generation, which goes by the name of the later.
func (x *Diagnosis) Protocol() string { return x.client.generation }

// SameProtocol reports whether a configured protocol means the one that was found.
func (x *Diagnosis) SameProtocol(configured string) bool {
	return configured == protocolAuto || generationOf(configured) == x.client.generation
}

// Signed reports whether the node signs its answers, so that its address can be verified.
func (x *Diagnosis) Signed() bool { return x.conn.dialect.Traits().SignsAnswers }

// FramesPerSecond is how many frames a second a connection sends under the configuration,
// and how many the node allows. 0: any number.
func (x *Diagnosis) FramesPerSecond() (ours, allowed float64) {
	allowed = x.conn.dialect.Traits().Budget.Frames
	return orDefault(x.client.cfg.RateLimit, allowed), allowed
}

// Address asks for the node's address. False: the node shows it only after SignIn.
func (x *Diagnosis) Address(ctx context.Context) (settlement.Address, bool, error) {
	err := x.conn.dialect.LearnAddress(ctx, x.conn)
	address, known := x.client.Address()
	return address, known, err
}

// SignIn signs in with the first key, as a Client does, and where the node needs that
// reserves every key's account at it. It returns the accounts whose signatures the node
// takes for another wallet's, so that they sign nothing.
func (x *Diagnosis) SignIn(ctx context.Context) (useless []settlement.Address, err error) {
	if err := x.conn.dialect.SignIn(ctx, x.conn); err != nil {
		return nil, err
	}
	x.client.pool.setSignedIn(x.conn, true)
	for _, s := range x.client.cfg.Signers {
		if x.client.signer(s.Address()) == nil {
			useless = append(useless, s.Address())
		}
	}
	return useless, nil
}

// Clock is by how much the node's clock is ahead of ours, and how far off that figure may
// be. Call it after SignIn.
func (x *Diagnosis) Clock(ctx context.Context) (ahead, within time.Duration, err error) {
	q := x.conn.dialect.Traits().ClockRead
	sent := time.Now()
	a, err := x.ask(ctx, q.Method, q.Params, x.conn.NodeTime())
	if err != nil {
		return 0, 0, err
	}
	within = time.Since(sent) / 2
	if text, failed := a.ErrorText(); failed {
		return 0, 0, &protocol.NodeError{Text: text}
	}
	return a.At.Sub(sent.Add(within)), within, nil
}

// ask sends one request with a timestamp.
func (x *Diagnosis) ask(ctx context.Context, method string, params any, at time.Time) (protocol.Answer, error) {
	r, err := x.conn.dialect.NewRequest(method, params, at)
	if err != nil {
		return protocol.Answer{}, err
	}
	answers, err := x.conn.RoundTrip(ctx, r)
	if err != nil {
		return protocol.Answer{}, err
	}
	return answers[0], nil
}

// Assets are Client.Assets. Call it after SignIn.
func (x *Diagnosis) Assets(ctx context.Context) ([]settlement.Asset, error) {
	return x.conn.dialect.ReadAssets(ctx, x.conn)
}

// Session reads a session, as Client.Session does. Call it after SignIn.
func (x *Diagnosis) Session(ctx context.Context, id settlement.SessionID) (settlement.Session, error) {
	return x.client.Session(ctx, id, settlement.ReadOptions{})
}

// Closed lists the first page of the sessions of an account that the node shows closed, as
// Client.ClosedSessions does. Call it after SignIn.
func (x *Diagnosis) Closed(ctx context.Context, account settlement.Address) ([]settlement.SessionID, error) {
	rows, _, err := x.client.ClosedSessions(account, time.Time{}).Next(ctx)
	ids := make([]settlement.SessionID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids, err
}

// Expiry is how the node treats the configured message expiry.
type Expiry struct {
	// None: requests of this generation never expire; versions tell two apart.
	None bool
	// Wrong is nil where closes can be sent under the configured expiry. Otherwise it says
	// what would happen.
	Wrong error
	// Actual is the node's own, to the second. 0: it is more than a day.
	Actual time.Duration
}

// Expiry finds out whether closes can be sent under the configured message expiry, by the
// reads that a Client probes it with, and by more of them what the node's own is, which it
// bisects to the second. Call it after SignIn. The error says why nothing was learned.
func (x *Diagnosis) Expiry(ctx context.Context) (found Expiry, err error) {
	e := x.conn.dialect.Traits().Expiry
	if e == nil {
		return Expiry{None: true}, nil
	}
	var mismatch *expiryMismatch
	switch err := x.client.prober.probeExpiry(ctx, x.conn); {
	case errors.As(err, &mismatch):
		found.Wrong = errors.New(mismatch.reason)
	case err != nil:
		return found, err
	}
	refuses := func(age time.Duration) (bool, error) {
		a, err := x.ask(ctx, e.Method, e.Params, x.conn.NodeTime().Add(-age))
		if err != nil {
			return false, err
		}
		return e.Refused(a)
	}
	accepted, refused := time.Duration(0), 24*time.Hour
	if beyond, err := refuses(refused); err != nil || !beyond {
		return found, err
	}
	for refused-accepted > time.Second/2 {
		middle := (accepted + refused) / 2
		tooOld, err := refuses(middle)
		switch {
		case err != nil:
			return found, err
		case tooOld:
			refused = middle
		default:
			accepted = middle
		}
	}
	found.Actual = ((accepted + refused) / 2).Round(time.Second) // nodes are configured in seconds
	return found, nil
}
