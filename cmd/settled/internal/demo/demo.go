// Package demo runs the whole of settled in one process against a simulated ClearNode, and
// prints the results.
package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// Options are what a demonstration needs of the program.
type Options struct {
	*terminal.Streams
	Config   *config.Config // Run changes it
	Log      zerolog.Logger
	Protocol string
	Sessions int
	Once     bool // end when all outcomes have their result

	// Of the entries that are stored after the demonstration's own.
	NoticeFunc func(error) error
	EntryFunc  func(ledger.Stored) error
}

// demo is a whole deployment in one process.
type demo struct {
	Options
	scene    Scene
	node     *clearnodetest.Node
	service  *service.Service
	outcomes []*outcome
	bySeq    map[uint64]*outcome // by sequence in the stream of outcomes
	nonce    uint64
	people   []string // addresses of alice, bob and the judge, whose key settled holds
	token    string   // of the dashboard; empty if the user configured one
}

// Run runs the demonstration until ctx ends, or once.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", natsconn.DemoDir)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{Options: o, scene: SceneFor(o.Protocol), bySeq: map[uint64]*outcome{}}
	if d.node, err = clearnodetest.Start(clearnodetest.Config{Protocol: o.Protocol, Faucet: decimal.NewFromInt(1_000_000_000)}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.node.Close()) }()
	key, err := d.configure(dir)
	if err != nil {
		return err
	}
	if err := d.startService(); err != nil {
		return err
	}
	defer d.service.NATS.Shutdown()
	defer d.service.HTTP.Close()
	if err := d.prepareOutcomes(key); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	running := make(chan error, 1)
	go func() { running <- d.service.Run(ctx) }()
	err = d.settleAll(ctx)
	if err == nil && !o.Once {
		err = d.stay(ctx)
	}
	cancel()
	return errors.Join(err, <-running)
}

// configure points the configuration at the simulated node and an embedded server, with
// all files in dir. It returns the key that settled signs with.
func (d *demo) configure(dir string) (*ecdsa.PrivateKey, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "judge.key")
	if err := os.WriteFile(keyFile, []byte(hex.EncodeToString(crypto.FromECDSA(key))), 0o600); err != nil {
		return nil, err
	}
	noShow, err := settlement.ParsePolicy("no_show", []settlement.PolicyStep{{To: "provider", Share: "0.5"}, {To: "funders", Share: "remaining"}})
	if err != nil {
		return nil, err
	}
	c := d.Config
	c.Policies["no_show"] = noShow
	if c.HTTPTokenFile == "" {
		d.token, c.HTTPTokenFile = rand.Text(), filepath.Join(dir, "token")
		if err := os.WriteFile(c.HTTPTokenFile, []byte(d.token), 0o600); err != nil {
			return nil, err
		}
	}
	c.NodeURL, c.NodeKeyFiles, c.NodeAddress, c.NodeProtocol = d.node.URL(), []string{keyFile}, d.node.Address().Hex(), d.Protocol
	c.Embedded, c.EmbeddedStoreDir, c.EmbeddedListen = true, filepath.Join(dir, natsconn.DemoStore), "127.0.0.1:0"
	c.NATSReplicas, c.NATSManageStreams, c.NATSStateDir = 1, true, service.StateDirNone
	return key, nil
}

func (d *demo) startService() error {
	s := service.New(d.Config, d.Log)
	d.service = s
	var err error
	if s.NATS, err = natsconn.ConnectEmbedded(d.Config, "settled demo", false); err != nil {
		return err
	}
	if err = s.OpenNode(); err == nil {
		if s.HTTP, err = s.ListenHTTP(); err != nil {
			d.Config.HTTPListen = "127.0.0.1:0"
			s.HTTP, err = s.ListenHTTP()
		}
	}
	if err != nil {
		s.NATS.Shutdown()
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.OpenStreams(ctx)
}

const rowFormat = "%-3s %-18s %-34s %-13s %-7s %s"

// settleAll publishes all outcomes and prints each result as it arrives.
func (d *demo) settleAll(ctx context.Context) error {
	start := time.Now()
	if !d.JSON() {
		if !d.Once {
			_ = d.PrintLine(fmt.Sprintf("Watch it at http://%s/\n", d.service.HTTP.Addr))
		}
		_ = d.PrintLine(fmt.Sprintf(rowFormat, "", "SCENARIO", "WHAT", "SESSION", "RESULT", "WHO GOT WHAT, OR WHY NOT"))
	}
	if err := d.publish(ctx, nil); err != nil {
		return err
	}
	unexpected, missing := 0, 0
	for _, o := range d.outcomes {
		if !o.duplicate {
			missing++
		}
	}
	following, stop := context.WithTimeout(ctx, 85*time.Second+time.Duration(d.Sessions)*20*time.Millisecond)
	defer stop()
	err := d.follow(following, 1, nil, func(s ledger.Stored) error {
		switch {
		case s.Foreign != nil:
			return s.Foreign
		case s.Err != nil:
			return s.Err
		}
		o := d.bySeq[s.Entry.Outcome.Sequence]
		if o == nil || s.Entry.State == settlement.EntryClosing {
			return nil
		}
		if !d.printResult(o, s.Entry) {
			unexpected++
		}
		if err := d.publish(ctx, o); err != nil {
			return err
		}
		if missing--; missing == 0 {
			stop()
		}
		return nil
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	duplicates, err := d.checkDuplicates(ctx)
	if err != nil {
		return err
	}
	return d.printSummary(unexpected+duplicates+missing, missing, time.Since(start))
}

// follow calls show with every entry from a sequence on, until ctx ends.
func (d *demo) follow(ctx context.Context, from uint64, notice func(error) error, show func(ledger.Stored) error) error {
	open := func(context.Context) (*streamreader.Reader, error) {
		return audit.LedgerReader(d.service.NATS.JS, d.Config.NATSPrefix), nil
	}
	return ledger.Follow(ctx, open, streamreader.Selection{Subjects: []string{ledger.Subject(d.Config.NATSPrefix, "*", "*")}, From: from}, notice, show)
}

func (d *demo) printSummary(unexpected, missing int, took time.Duration) error {
	accounts := d.node.Check()
	if !d.JSON() {
		verdict, books := "each as expected", "every session paid once, to the last unit, no residue"
		if unexpected > 0 {
			verdict = fmt.Sprintf("%d NOT as expected (%d without a result)", unexpected, missing)
		}
		if accounts != nil {
			books = accounts.Error()
		}
		_ = d.PrintLine(fmt.Sprintf("\n%d outcomes in %s, %s. The node's own books: %s.", len(d.outcomes), took.Round(10*time.Millisecond), verdict, books))
	}
	if unexpected == 0 && accounts == nil {
		return nil
	}
	err := errors.Join(fmt.Errorf("%d of %d outcomes did not end as expected", unexpected, len(d.outcomes)), accounts)
	if d.Once {
		return err
	}
	d.Log.Error().Err(err).Msg("demo")
	return nil
}

// checkDuplicates counts the duplicates with an unexpected result. A duplicate leaves no
// entry: once the consumer has answered every message, its session must have exactly one
// closed entry.
func (d *demo) checkDuplicates(ctx context.Context) (unexpected int, err error) {
	if err := d.waitAcknowledged(ctx); err != nil {
		return 0, err
	}
	for _, o := range d.outcomes {
		if !o.duplicate {
			continue
		}
		history, err := d.service.Ledger().Session(ctx, o.session)
		if err != nil {
			return unexpected, err
		}
		closed, last := 0, settlement.Entry{}
		for _, stored := range history {
			if stored.Entry.State == settlement.EntryClosed {
				closed, last = closed+1, stored.Entry
			}
		}
		if !d.printResult(o, last) || closed != 1 {
			unexpected++
		}
	}
	return unexpected, nil
}

// waitAcknowledged waits until the consumer has acknowledged every message.
func (d *demo) waitAcknowledged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	durable, err := d.service.NATS.JS.Consumer(ctx, consumer.OutcomesStream(d.Config.NATSPrefix), d.Config.ConsumerDurable)
	if err != nil {
		return err
	}
	for {
		info, err := durable.Info(ctx)
		if err != nil {
			return fmt.Errorf("waiting for the last outcome's acknowledgement: %w", err)
		}
		if info.NumPending == 0 && info.NumAckPending == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stay keeps everything running, and shows the entries that are stored from now on.
func (d *demo) stay(ctx context.Context) error {
	session, err := d.openSession()
	if err != nil {
		return err
	}
	if !d.JSON() {
		dashboard := fmt.Sprintf("The dashboard is at http://%s/", d.service.HTTP.Addr)
		if d.token != "" {
			dashboard += "; its token for replaying and discarding is " + d.token
		}
		total := ""
		if d.scene.undisclosed {
			total = " --total " + d.scene.deposits[0].asset + "=" + d.scene.deposits[0].amount
		}
		url := d.service.NATS.Embedded.ClientURL()
		_ = d.PrintLine(fmt.Sprintf("\nStill running: NATS at %s, ClearNode (%s) at %s, health at http://%s/readyz.\n%s.\n\nOne more session is open. Settle it from another terminal:\n\n  %s publish game_completed --nats.url=%s --session %s --party winner=%s%s\n\nCtrl-C ends it.",
			url, d.Protocol, d.node.URL(), d.service.HTTP.Addr, dashboard, os.Args[0], url, session, d.people[0], total))
	}
	last, err := audit.LastEntry(ctx, d.service.NATS.JS, d.Config.NATSPrefix)
	if err != nil {
		return nil // interrupted
	}
	return d.follow(ctx, last+1, d.NoticeFunc, d.EntryFunc)
}
