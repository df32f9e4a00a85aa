package main

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rs/zerolog"
	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

func (p *program) demoCommand() *cobra.Command {
	var once bool
	var sessions int
	var protocol string
	c := &cobra.Command{
		Use: "demo", Short: "See it work: embedded JetStream, a simulated ClearNode, one outcome of every kind",
		Long: "Runs everything in this process and needs nothing: an embedded JetStream, a simulated ClearNode, the\nservice, and outcomes of every scenario and of the common ways to fail. Prints each result as it arrives,\nthen stays up until interrupted; with --once it exits when all have their result.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			spoken, err := simProtocol(protocol)
			if err != nil {
				return err
			}
			if sessions < 1 || sessions > 100_000 {
				return terminal.UsageError(fmt.Errorf("--sessions %d: want 1 to 100000", sessions))
			}
			cfg, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("log.level") {
				cfg.LogLevel = "error" // the table is what is to be seen
			}
			log, err := telemetry.NewLog(&cfg, p.Err)
			if err != nil {
				return err
			}
			d := demo{program: p, cfg: &cfg, log: log, sessions: sessions, scene: sceneOf(spoken)}
			return d.run(cmd.Context(), once)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "exit when all outcomes have their result; 0 when each ended as it should")
	c.Flags().IntVar(&sessions, "sessions", 6, "how many sessions are settled, the scenarios in turn")
	c.Flags().StringVar(&protocol, "protocol", "auto", "what the node speaks: nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1")
	return c
}

// demo is a whole deployment in one process.
type demo struct {
	*program
	cfg      *config.Config
	log      zerolog.Logger
	sessions int
	scene    demoScene
	node     *clearnodetest.Node
	service  *service.Service
	cases    []*demoCase
	bySeq    map[uint64]*demoCase
	nonce    uint64
	players  []*ecdsa.PrivateKey // alice, bob
	judge    *ecdsa.PrivateKey   // whose key settled holds
	token    string              // of the dashboard; empty: the user's own
}

func (d *demo) run(ctx context.Context, once bool) (err error) {
	dir, err := os.MkdirTemp("", natsconn.DemoDir)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := d.start(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.node.Close()) }()
	defer d.service.Http.Close()
	defer d.service.Nats.Shutdown()
	ctx, cancel := context.WithCancel(ctx)
	running := make(chan error, 1)
	go func() { running <- d.service.Run(ctx) }()
	err = d.show(ctx, once)
	if err == nil && !once {
		err = d.stay(ctx)
	}
	cancel()
	return errors.Join(err, <-running)
}

// start brings up NATS, the node and the service's connections.
func (d *demo) start(dir string) error {
	var err error
	if d.node, err = clearnodetest.Start(clearnodetest.Config{Protocol: d.scene.protocol, Faucet: decimal.NewFromInt(1_000_000_000)}); err != nil {
		return err
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		return err
	}
	keyFile := filepath.Join(dir, "judge.key")
	if err := os.WriteFile(keyFile, []byte(hex.EncodeToString(crypto.FromECDSA(key))), 0o600); err != nil {
		return err
	}
	noShow, err := settlement.ParsePolicy("no_show", []settlement.PolicyStep{{To: "provider", Share: "0.5"}, {To: "funders", Share: "remaining"}})
	if err != nil {
		return err
	}
	d.cfg.Policies["no_show"] = noShow
	if d.cfg.HTTPTokenFile == "" {
		if d.token, d.cfg.HTTPTokenFile, err = demoToken(dir); err != nil {
			return err
		}
	}
	d.cfg.NodeURL, d.cfg.NodeKeyFiles, d.cfg.NodeAddress, d.cfg.NodeProtocol = d.node.URL(), []string{keyFile}, d.node.Address().Hex(), d.scene.protocol
	d.cfg.Embedded, d.cfg.EmbeddedStoreDir, d.cfg.EmbeddedListen = true, filepath.Join(dir, natsconn.DemoStore), "127.0.0.1:0"
	d.cfg.NATSReplicas, d.cfg.NATSManageStreams, d.cfg.NATSStateDir = 1, true, service.StateDirNone
	if err := d.startService(); err != nil {
		return errors.Join(err, d.node.Close())
	}
	return d.prepare(key)
}

func (d *demo) startService() error {
	s := &service.Service{Cfg: d.cfg, Log: d.log, Metrics: telemetry.New(d.log)}
	d.service = s
	s.Remember()
	var err error
	node, err := d.cfg.Node()
	if err != nil {
		return err
	}
	s.Metrics.ObserveNode(&node)
	if s.Node, err = clearnode.New(node); err != nil {
		return err
	}
	if s.Nats, err = natsconn.ConnectEmbedded(d.cfg, "settled demo", false); err != nil {
		return err
	}
	if s.Http, err = s.ListenHTTP(); err != nil {
		d.cfg.HTTPListen = "127.0.0.1:0"
		s.Http, err = s.ListenHTTP()
	}
	if err != nil {
		s.Nats.Shutdown()
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.Build(ctx)
}

// demoResult is one line of the demonstration.
type demoResult struct {
	Scenario    string                  `json:"scenario"`
	SessionID   string                  `json:"session_id"`
	State       string                  `json:"state"`
	Code        string                  `json:"code"`
	Allocations []settlement.Allocation `json:"allocations"`
	Expected    bool                    `json:"expected"`
}

const demoRow = "%-3s %-18s %-34s %-13s %-7s %s"

// show publishes all outcomes and prints each result as it arrives.
func (d *demo) show(ctx context.Context, once bool) error {
	start := time.Now()
	if !d.JSON() {
		if !once {
			_ = d.PrintLine(fmt.Sprintf("Watch it at http://%s/\n", d.service.Http.Addr))
		}
		_ = d.PrintLine(fmt.Sprintf(demoRow, "", "SCENARIO", "WHAT", "SESSION", "RESULT", "WHO GOT WHAT, OR WHY NOT"))
	}
	if err := d.publish(ctx, nil); err != nil {
		return err
	}
	unexpected := 0
	waiting := len(d.cases)
	watching, stop := context.WithTimeout(ctx, 85*time.Second+time.Duration(d.sessions)*20*time.Millisecond)
	defer stop()
	for _, c := range d.cases {
		if c.silent {
			waiting--
		}
	}
	err := watchLedger(watching, d.ledgerReader, d.cfg.NATSPrefix, "settlement.*.*", 1, nil, func(s ledger.Stored) error {
		switch {
		case s.Foreign != nil:
			return s.Foreign
		case s.Err != nil:
			return s.Err
		}
		e := s.Entry
		c := d.bySeq[e.Outcome.Sequence]
		if c == nil || e.State == settlement.EntryClosing {
			return nil
		}
		if !c.result(d, e) {
			unexpected++
		}
		if err := d.publish(ctx, c); err != nil {
			return err
		}
		if waiting--; waiting == 0 {
			stop()
		}
		return nil
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	more, err := d.duplicates(ctx)
	unexpected += more + waiting
	if err != nil {
		return err
	}
	return d.summary(unexpected, waiting, time.Since(start), once)
}

func (d *demo) summary(unexpected, missing int, took time.Duration, once bool) error {
	law := d.node.Check()
	if !d.JSON() {
		verdict := "each as it should"
		if unexpected > 0 {
			verdict = fmt.Sprintf("%d NOT as they should (%d without a result)", unexpected, missing)
		}
		_ = d.PrintLine(fmt.Sprintf("\n%d outcomes in %s, %s. The node's own books: %s.", len(d.cases), took.Round(10*time.Millisecond), verdict, okOr(law, "every session paid once, to the last unit, no residue")))
	}
	if unexpected > 0 || law != nil {
		err := fmt.Errorf("%d of %d outcomes did not end as they should", unexpected, len(d.cases))
		if once {
			return errors.Join(err, law)
		}
		d.log.Error().Err(errors.Join(err, law)).Msg("demo")
	}
	return nil
}

func okOr(err error, ok string) string {
	if err != nil {
		return err.Error()
	}
	return ok
}

// duplicates are outcomes published a second time: they leave no entry. Once the
// consumer has answered every message, exactly one closed entry must be there.
func (d *demo) duplicates(ctx context.Context) (unexpected int, err error) {
	if err := d.answered(ctx); err != nil {
		return 0, err
	}
	for _, c := range d.cases {
		if !c.silent {
			continue
		}
		history, err := d.service.Ledger.Session(ctx, c.session)
		if err != nil {
			return unexpected, err
		}
		closed, last := 0, settlement.Entry{}
		for _, stored := range history {
			if stored.Entry.State == settlement.EntryClosed {
				closed, last = closed+1, stored.Entry
			}
		}
		if !c.result(d, last) || closed != 1 {
			unexpected++
		}
	}
	return unexpected, nil
}

// answered waits until the consumer has acknowledged every message.
func (d *demo) answered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	durable, err := d.service.Nats.JS.Consumer(ctx, consumer.OutcomesStream(d.cfg.NATSPrefix), d.cfg.ConsumerDurable)
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

// stay keeps everything up and prints what else comes in.
func (d *demo) stay(ctx context.Context) error {
	session, err := d.open()
	if err != nil {
		return err
	}
	if !d.JSON() {
		_ = d.PrintLine(fmt.Sprintf("\nStill running: NATS at %s, ClearNode (%s) at %s, health at http://%s/readyz.\n%s\n\nOne more session is open. Settle it from another terminal:\n\n  %s publish game_completed --nats.url=%s --session %s --party winner=%s%s\n\nCtrl-C ends it.",
			d.service.Nats.Embedded.ClientURL(), d.scene.protocol, d.node.URL(), d.service.Http.Addr, d.boardText(), os.Args[0], d.service.Nats.Embedded.ClientURL(), session, addressOf(d.players[0]), d.scene.toldText()))
	}
	info, err := d.service.Nats.JS.Stream(ctx, ledger.StreamName(d.cfg.NATSPrefix))
	if err != nil {
		return nil //nolint:nilerr // interrupted
	}
	return watchLedger(ctx, d.ledgerReader, d.cfg.NATSPrefix, "settlement.*.*", info.CachedInfo().State.LastSeq+1, d.noticed, d.showEntry(""))
}

func (d *demo) ledgerReader(context.Context) (*streamreader.Reader, error) {
	return audit.LedgerReader(d.service.Nats.JS, d.cfg.NATSPrefix), nil
}

func addressOf(key *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(key.PublicKey).Hex() }
