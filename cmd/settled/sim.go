package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/demo"
	"settled/cmd/settled/internal/sim"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// simResult is what `settled sim` prints.
type simResult struct {
	URL      string `json:"url"`
	Address  string `json:"address"` // that signs its answers
	Protocol string `json:"protocol"`
	Control  string `json:"control,omitempty"` // address of the HTTP API
}

func (p *program) simCommand() *cobra.Command {
	var listen, faucet, protocol, keyFile, control string
	var expiry time.Duration
	var o sim.Options
	var opening openingFlags
	c := &cobra.Command{
		Use: "sim", Short: "Run a simulated ClearNode",
		Long: "Runs a simulated ClearNode to develop and test against: the methods, error texts and quirks of the real one, of any\ngeneration (--protocol), with assets usdc (6 decimals) and weth (18 decimals) and no chain. `settled sim open` opens\nfunded sessions at it. deploy/SIM.md explains the faults and the HTTP API.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Node.Protocol, err = demo.ParseProtocol(protocol); err != nil {
				return err
			}
			if o.Node.Faucet, err = demo.ParseFaucet(faucet); err != nil {
				return err
			}
			if o.Node.BrokerKey, err = demo.LoadOrCreateKey(keyFile); err != nil {
				return fmt.Errorf("--key-file: %w", err)
			}
			var request sim.Opening
			if opening.sessions > 0 {
				if request, err = p.openingRequest(cmd, opening); err != nil {
					return err
				}
			}
			o.Node.Listen, o.Node.MessageExpiry = listen, expiry
			s, err := sim.Start(o)
			if err != nil {
				return fmt.Errorf("simulated ClearNode: %w", err)
			}
			return p.runSim(cmd, s, control, request)
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8000", "address to listen at; the path is /ws")
	c.Flags().StringVar(&faucet, "faucet", "1000", "how much of each asset every wallet has when it is first seen")
	c.Flags().StringVar(&protocol, "protocol", "auto", "nitrorpc/legacy, nitrorpc/0.2, nitrorpc/0.4 or nitronode/v1; auto: nitrorpc/0.4")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the key that signs the node's answers, 64 hex digits; created if missing. Without it each start has another address, which a running settled rejects")
	c.Flags().DurationVar(&expiry, "message-expiry", time.Minute, "how old an accepted request may be (nitronode/v1: any age)")
	c.Flags().StringVar(&o.StateFile, "state", "", "file that keeps sessions, balances and transactions over a restart, written every second and at the end; created if missing")
	c.Flags().StringVar(&o.Faults, "fault", "", "what goes wrong with which share of the requests, as in delay=2s@50%,lose-answer=10%,refuse:close_app_session=5% (deploy/SIM.md lists the faults)")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the faults: the same requests in the same order have the same faults")
	c.Flags().StringVar(&control, "control", "", "loopback address of the HTTP API, as in "+defaultControl+"; `settled sim open` uses it. Unset: none")
	opening.add(c.Flags(), 0)
	c.AddCommand(p.simOpenCommand())
	return c
}

// defaultControl is where `settled sim open` looks for a running node.
const defaultControl = "127.0.0.1:8001"

// runSim runs a node until the command is interrupted.
func (p *program) runSim(cmd *cobra.Command, s *sim.Sim, control string, request sim.Opening) error {
	result := simResult{URL: s.Node.URL(), Address: s.Node.Address().Hex(), Protocol: s.Protocol}
	text := fmt.Sprintf("A simulated ClearNode (%s) listens at %s; its address is %s. Ctrl-C ends it.", result.Protocol, result.URL, result.Address)
	var err error
	if control != "" {
		var stop func()
		if result.Control, stop, err = s.ServeControl(control); err != nil {
			return errors.Join(err, s.Close())
		}
		defer stop()
		text += fmt.Sprintf(" Its HTTP API is at http://%s/.", result.Control)
	}
	var opened []sim.SessionAnswer
	if request.Participants != nil {
		opened, err = s.Open(request)
	}
	if err == nil {
		err = p.Print(result, text)
	}
	if err == nil {
		err = p.printOpened(cmd, s.Protocol, opened)
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Run(cmd.Context())
}

// openingFlags say which sessions to open.
type openingFlags struct {
	sessions, players  int
	judge, application string
	player, deposits   []string
	weights            []int64
	quorum             uint64
}

func (f *openingFlags) add(flags *pflag.FlagSet, sessions int) {
	flags.IntVar(&f.sessions, "sessions", sessions, "how many sessions to open")
	flags.StringVar(&f.judge, "judge", "", "address of the last participant, whose signature closes. Unset: that of the first of clearnode.key_files, or of the file judge.key")
	flags.StringArrayVar(&f.player, "player", nil, "address of a participant; may be repeated")
	flags.IntVar(&f.players, "players", 2, "number of participants but the judge; random addresses are added to those of --player")
	flags.Int64SliceVar(&f.weights, "weights", nil, "weights of the players, then of the judge, as in 50,50,100 (default 0 for each player, 100 for the judge)")
	flags.Uint64Var(&f.quorum, "quorum", 100, "sum of weights that must sign a close")
	flags.StringArrayVar(&f.deposits, "deposit", nil, "[PLAYER:]ASSET=AMOUNT, where PLAYER is 1 for the first one; may be repeated (default 1:usdc=10)")
	flags.StringVar(&f.application, "application", "sim", "application that the sessions name")
}

func (p *program) simOpenCommand() *cobra.Command {
	var f openingFlags
	var control string
	c := &cobra.Command{
		Use: "open", Short: "Open funded sessions at a running `settled sim --control`",
		Long:    "Opens sessions at a running simulated node, with deposits from nowhere, and prints for each the command that settles it.",
		Example: "  settled sim open\n  settled sim open --sessions 20 --player 0x2B5A… --deposit 1:usdc=10 --deposit 2:weth=0.5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			request, err := p.openingRequest(cmd, f)
			if err != nil {
				return err
			}
			var info sim.NodeInfo
			if err := callControl(cmd.Context(), http.MethodGet, control, "/", nil, &info); err != nil {
				return err
			}
			var list sim.SessionList
			if err := callControl(cmd.Context(), http.MethodPost, control, "/sessions", request, &list); err != nil {
				return err
			}
			return p.printOpened(cmd, info.Protocol, list.Sessions)
		},
	}
	f.add(c.Flags(), 1)
	c.Flags().StringVar(&control, "control", defaultControl, "address of the running node's HTTP API")
	return c
}

// callControl calls the HTTP API of a running node.
func callControl(ctx context.Context, method, control, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+control+path, bytes.NewReader(text))
	if err != nil {
		return terminal.UsageError(fmt.Errorf("--control: %w", err))
	}
	response, err := http.DefaultClient.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: start `settled sim --control %s` first", control, control)
	}
	if err != nil {
		return fmt.Errorf("--control: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err = io.ReadAll(response.Body)
	var failed struct {
		Error string `json:"error"`
	}
	switch {
	case err != nil:
		return fmt.Errorf("--control: %w", err)
	case response.StatusCode != http.StatusOK && json.Unmarshal(text, &failed) == nil && failed.Error != "":
		return errors.New(failed.Error)
	case response.StatusCode != http.StatusOK || json.Unmarshal(text, answer) != nil:
		return fmt.Errorf("what listens at %s is not `settled sim --control`: it answered %s", control, response.Status)
	}
	return nil
}

// openingRequest returns what the flags ask for.
func (p *program) openingRequest(cmd *cobra.Command, f openingFlags) (o sim.Opening, err error) {
	if f.sessions < 1 {
		return o, terminal.UsageError(fmt.Errorf("--sessions %d: want 1 or more", f.sessions))
	}
	if f.players < 1 || f.players > 30 {
		return o, terminal.UsageError(fmt.Errorf("--players %d: want 1 to 30", f.players))
	}
	judge, err := p.judge(cmd, f.judge)
	if err != nil {
		return o, err
	}
	players := slices.Clone(f.player)
	for len(players) < f.players {
		key, err := crypto.GenerateKey()
		if err != nil {
			return o, err
		}
		players = append(players, crypto.PubkeyToAddress(key.PublicKey).Hex())
	}
	o = sim.Opening{Count: f.sessions, Application: f.application, Participants: append(players, judge), Weights: f.weights, Quorum: f.quorum}
	for _, text := range f.deposits {
		d, err := parseDeposit(text, players)
		if err != nil {
			return o, terminal.UsageError(err)
		}
		o.Deposits = append(o.Deposits, d)
	}
	return o, nil
}

func parseDeposit(text string, players []string) (d clearnodetest.Allocation, err error) {
	who, what, found := strings.Cut(text, ":")
	if !found {
		who, what = "1", text
	}
	n, err := strconv.Atoi(who)
	asset, amount, _ := strings.Cut(what, "=")
	if err != nil || n < 1 || n > len(players) {
		return d, fmt.Errorf("--deposit %q: want [PLAYER:]ASSET=AMOUNT, with PLAYER 1 to %d", text, len(players))
	}
	exact, err := settlement.ParseAmount(amount)
	if err != nil {
		return d, fmt.Errorf("--deposit %q: want [PLAYER:]ASSET=AMOUNT: %w", text, err)
	}
	value, err := decimal.NewFromString(exact.String())
	return clearnodetest.Allocation{Participant: players[n-1], Asset: asset, Amount: value}, err
}

// judge returns the given address, or that of the key with which settled closes.
func (p *program) judge(cmd *cobra.Command, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return "", err
	}
	file := "judge.key"
	if len(cfg.NodeKeyFiles) > 0 {
		file = cfg.NodeKeyFiles[0]
	}
	signer, err := clearnode.LoadKeyFile(file, cfg.NodePasswordFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("whose signature closes the sessions? Give --judge with an address, --config with settled's configuration, or --clearnode.key_files: %w", err)
	}
	if err != nil {
		return "", err
	}
	return signer.Address().String(), nil
}

// openedSession is one session that `settled sim open` opened.
type openedSession struct {
	SessionID    settlement.SessionID    `json:"session_id"`
	Participants []string                `json:"participants"` // the judge is the last
	Weights      []int64                 `json:"weights"`
	Quorum       uint64                  `json:"quorum"`
	Deposits     []settlement.Allocation `json:"deposits"`
	Publish      string                  `json:"publish"` // the command that pays everything to the last player
}

func (p *program) printOpened(cmd *cobra.Command, protocol string, sessions []sim.SessionAnswer) error {
	for _, s := range sessions {
		id, err := settlement.ParseSessionID(s.ID)
		if err != nil {
			return err
		}
		o := openedSession{SessionID: id, Participants: s.Definition.Participants, Weights: s.Definition.Weights, Quorum: s.Definition.Quorum}
		for _, d := range s.Deposits {
			amount, err := settlement.ParseAmount(d.Amount.String())
			if err != nil {
				return err
			}
			o.Deposits = append(o.Deposits, settlement.Allocation{Participant: d.Participant, Asset: settlement.Asset(d.Asset), Amount: amount})
		}
		o.Publish = publishLine(cmd, protocol, o)
		if err := p.Print(o, fmt.Sprintf("%s\n  %s", terminal.Printable(s.ID), o.Publish)); err != nil {
			return err
		}
	}
	return nil
}

// publishLine returns the command that settles a session, with the flags of this command
// that say which NATS it publishes to.
func publishLine(cmd *cobra.Command, protocol string, s openedSession) string {
	words := []string{
		os.Args[0], "publish", "payment_completed", "--session", string(s.SessionID),
		"--party", "provider=" + s.Participants[len(s.Participants)-2],
	}
	if protocol == clearnodetest.Legacy { // shows neither total nor funder
		total, funders := decimal.Zero, []string{}
		for _, d := range s.Deposits {
			amount, _ := decimal.NewFromString(d.Amount.String())
			total, funders = total.Add(amount), append(funders, d.Participant)
		}
		words = append(words, "--total", string(s.Deposits[0].Asset)+"="+total.String())
		if len(slices.Compact(funders)) == 1 {
			words = append(words, "--party", "funder="+funders[0])
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if value := f.Value.String(); f.Name == "nats.url" {
			words = append(words, "--nats.url="+config.RedactURL(value))
		} else if f.Name == "config" || strings.HasPrefix(f.Name, "nats.") {
			words = append(words, "--"+f.Name+"="+value)
		}
	})
	for i, w := range words {
		words[i] = quoteShell(w)
	}
	return strings.Join(words, " ")
}
