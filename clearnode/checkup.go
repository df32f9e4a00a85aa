package clearnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"settled/settlement"
)

// Diagnosis looks at a node step by step, on one connection of its own, for whoever
// wants to know what is wrong before money has to move. It holds the node to
// nothing: what it finds is the caller's to compare with the configuration. It
// closes no session, and signs in as a Client does.
type Diagnosis struct {
	client *Client
	conn   *conn
	end    context.CancelFunc
	served sync.WaitGroup
}

// Diagnose connects to the node that the configuration names and finds out which
// protocol it speaks. Protocol and NodeAddress of the configuration are not held
// against it, but at a legacy node, which shows its address only to whoever
// signed in. The error says what stands between us and the node. Close ends it.
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
	c, err := client.lines[0].dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", publicURL(client.url), err)
	}
	if client.generation == protocolLegacy && pinned != nil {
		client.node = pinned
	}
	if n, is := client.dialect.(*nitro); is {
		n.application = client.cfg.Application + "/doctor" // one row at the node, however often this is done
	}
	x := &Diagnosis{client: client, conn: c}
	x.serve(ctx)
	return x, nil
}

func (x *Diagnosis) serve(ctx context.Context) {
	ctx, x.end = context.WithCancel(ctx)
	x.served.Go(x.conn.read)
	x.served.Go(x.conn.write)
	x.served.Go(func() {
		select {
		case <-ctx.Done():
			x.conn.leave(errStopped)
		case <-x.conn.gone:
		}
	})
	x.client.pool.run(true)
	x.client.pool.add(x.conn)
}

// Close ends the connection and waits for what served it.
func (x *Diagnosis) Close() {
	x.end()
	x.served.Wait()
	x.client.pool.remove(x.conn)
}

// Protocol is what the node speaks, as Config.Protocol names it. NitroRPC 0.2 and
// 0.4 are one generation, which goes by the name of the later.
func (x *Diagnosis) Protocol() string { return x.client.generation }

// SameProtocol reports whether a configured protocol means the one that was found.
func (x *Diagnosis) SameProtocol(configured string) bool {
	return configured == protocolAuto || generation(configured) == x.client.generation
}

// Signed reports whether the node signs its answers, so that its address can be
// held against it.
func (x *Diagnosis) Signed() bool { return x.client.generation != protocolV1 }

// FramesPerSecond is how many frames a second a connection sends under the
// configuration, and how many the node allows. 0: any number.
func (x *Diagnosis) FramesPerSecond() (ours, allowed float64) {
	if d, limited := x.conn.dialect.(budgeted); limited {
		allowed = d.budget().frames
	}
	ours = x.client.cfg.RateLimit
	if ours == 0 {
		ours = allowed
	}
	return ours, allowed
}

// Address asks for the node's address. False: it tells that only after SignIn.
func (x *Diagnosis) Address(ctx context.Context) (settlement.Address, bool, error) {
	var err error
	switch d := x.conn.dialect.(type) {
	case *nitro:
		err = d.ping(ctx, x.conn)
	case *v1:
		err = d.signIn(ctx, x.conn) // which signs nobody in
	}
	address, known := x.client.Address()
	return address, known, err
}

// SignIn signs in with the first key, as a Client does, and where the node wants
// that reserves every key's account at it. It returns the accounts whose
// signatures the node takes for another wallet's, so that they sign nothing.
func (x *Diagnosis) SignIn(ctx context.Context) (useless []settlement.Address, err error) {
	if err := x.conn.dialect.signIn(ctx, x.conn); err != nil {
		return nil, err
	}
	x.client.pool.sign(x.conn, true)
	for _, s := range x.client.cfg.Signers {
		if x.client.signer(s.Address()) == nil {
			useless = append(useless, s.Address())
		}
	}
	return useless, nil
}

// Clock is by how much the node's clock is ahead of ours, and how far off that
// figure may be. It is asked for after SignIn.
func (x *Diagnosis) Clock(ctx context.Context) (ahead, within time.Duration, err error) {
	method, params := "ping", any(struct{}{})
	switch x.conn.dialect.(type) {
	case *legacy:
		method, params = legacyExpiry.ask, legacyExpiry.params
	case *v1:
		method = v1Ping
	}
	r, err := x.conn.dialect.question(method, params, x.conn.nodeTime())
	if err != nil {
		return 0, 0, err
	}
	sent := time.Now()
	answers, err := x.conn.round(ctx, r)
	if err != nil {
		return 0, 0, err
	}
	within = time.Since(sent) / 2
	if text, failed := answers[0].failed(); failed {
		return 0, 0, &nodeError{text: text}
	}
	return answers[0].at.Sub(sent.Add(within)), within, nil
}

// Session reads a session, as Client.Session does. It is asked for after SignIn.
func (x *Diagnosis) Session(ctx context.Context, id settlement.SessionID) (settlement.Session, error) {
	return x.client.Session(ctx, id, settlement.ReadOptions{})
}

// Closed lists the sessions of an account that the node shows closed, the first page
// of them, as Client.ClosedSessions does. It is asked for after SignIn.
func (x *Diagnosis) Closed(ctx context.Context, of settlement.Address) ([]settlement.SessionID, error) {
	rows, _, err := x.client.ClosedSessions(of, time.Time{}).Next(ctx)
	ids := make([]settlement.SessionID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids, err
}
