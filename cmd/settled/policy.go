package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/policies"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/settlement"
)

func (p *program) policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "List, explain, test and compare the policies"}
	list := &cobra.Command{
		Use: "list", Short: "List the policy of each scenario, with its limits",
		Long: "Lists the policies and limits of this configuration (-c). Closed entries of the ledger name the digest of the policy\nthat they were paid by.",
		RunE: func(cmd *cobra.Command, _ []string) error { return p.policyList(cmd) },
	}
	c.AddCommand(list, p.policyExplainCommand(), p.policyTestCommand(), p.policyBacktestCommand())
	return c
}

// listedPolicy is one line of `settled policy list`.
type listedPolicy struct {
	Scenario settlement.Scenario     `json:"scenario"`
	Origin   string                  `json:"origin"` // built-in, or configured: in the configuration file
	Digest   string                  `json:"digest"` // SHA-256 of the steps in RFC 8785 form, lower-case hex, as entries have it
	Steps    []settlement.PolicyStep `json:"steps"`
	Limits   []settlement.Limit      `json:"limits"` // that apply to the scenario
}

func (p *program) policyList(cmd *cobra.Command) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	for i, name := range cfg.Scenarios() {
		policy := cfg.Policies[settlement.Scenario(name)]
		l := listedPolicy{policy.Scenario, "built-in", policy.Ref().Digest, policy.Steps, []settlement.Limit{}}
		if cfg.IsConfigured(policy.Scenario) {
			l.Origin = "configured"
		}
		for _, limit := range cfg.Limits {
			if limit.Scenario == "" || limit.Scenario == policy.Scenario {
				l.Limits = append(l.Limits, limit)
			}
		}
		if err := p.Print(l, l.text(i > 0)); err != nil {
			return err
		}
	}
	return nil
}

func (l listedPolicy) text(more bool) string {
	text := fmt.Sprintf("%s (%s)\n    digest  %s", l.Scenario, l.Origin, l.Digest)
	if more {
		text = "\n" + text
	}
	for i, s := range l.Steps {
		text += fmt.Sprintf("\n    step %d  to %s, share %s", i+1, s.To, s.Share)
	}
	for _, limit := range l.Limits {
		text += fmt.Sprintf("\n    limit   %s", limit)
	}
	return text
}

// explainFlags are the flags of `settled policy explain`.
type explainFlags struct {
	publishFlags
	event    string
	sequence uint64
}

func (p *program) policyExplainCommand() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use: "explain [SCENARIO]", Short: "Show what an outcome pays, and how that follows step by step", Args: cobra.MaximumNArgs(1),
		Example: "  settled policy explain partial_service --session 0xcaeb… --party provider=0x2B5A… --completion 0.75\n" +
			"  settled policy explain --sequence 17\n  settled policy explain cancellation --session session.json",
		Long: `Shows the share of each step, the exact quota of each participant and asset, how it is rounded and why, what is used of
each limit, and the final rows; or the code and text with which the outcome fails. It is computed by the code that pays.

The outcome is described by SCENARIO and flags as for ` + "`settled publish`" + `, by a CloudEvent in a file (--event), or it is the
message of that --sequence in OUTCOMES. The session is read at the node as it is now; of a closed one, the balance before
its close is explained. --session FILE describes a session instead, and nothing is read from the network: --output json
prints the session in that form. The ledger is not read: whether another outcome holds the session is not checked.
Exits 1 if the outcome fails.`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.policyExplain(cmd, args, f) },
	}
	c.Flags().StringVar(&f.session, "session", "", "the app session: its id, or a JSON file that describes it")
	f.addDataFlags(c)
	c.Flags().StringVar(&f.event, "event", "", "file with the outcome as a CloudEvent, as it is published, or - for standard input")
	c.Flags().Uint64Var(&f.sequence, "sequence", 0, "the message with this sequence in OUTCOMES")
	return c
}

func (p *program) policyExplain(cmd *cobra.Command, args []string, f explainFlags) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	session, err := f.readSessionFile()
	if err != nil {
		return err
	}
	o, err := p.outcomeToExplain(cmd.Context(), &cfg, args, f)
	if err != nil {
		return err
	}
	var readErr error
	if f := cfg.Policies.Check(o, nil); f == nil && session == nil {
		if session, readErr, err = readSessionAtNode(cmd.Context(), &cfg, o); err != nil {
			return err
		}
	}
	if session == nil {
		session = &settlement.Session{}
	}
	e := policies.Explain(cfg.Policies, cfg.Limits, o, *session, readErr)
	if err := p.Print(e, terminal.PrintableLines(e.Text())); err != nil {
		return err
	}
	if e.Would != string(settlement.ActionClose) {
		return fmt.Errorf("the outcome would %s: %s", e.Would, e.Code)
	}
	return nil
}

// readSessionFile reads the session that --session describes; nil if it names none, or an id.
func (f *explainFlags) readSessionFile() (*settlement.Session, error) {
	if f.session == "" {
		return nil, nil
	}
	if _, err := settlement.ParseSessionID(f.session); err == nil {
		return nil, nil
	}
	text, err := os.ReadFile(f.session)
	if errors.Is(err, os.ErrNotExist) {
		return nil, terminal.UsageError(fmt.Errorf("--session %q: neither a session id (0x and 64 hex digits) nor a file", f.session))
	}
	if err != nil {
		return nil, fmt.Errorf("--session: %w", err)
	}
	s, err := policies.ReadSession(text)
	if err != nil {
		return nil, fmt.Errorf("--session %s: %w", f.session, err)
	}
	f.session = string(s.ID)
	return &s, nil
}

// outcomeToExplain returns the outcome that arguments and flags describe.
func (p *program) outcomeToExplain(ctx context.Context, cfg *config.Config, args []string, f explainFlags) (settlement.Outcome, error) {
	var o settlement.Outcome
	described := 0
	for _, given := range []bool{len(args) > 0, f.event != "", f.sequence > 0} {
		if given {
			described++
		}
	}
	if described != 1 {
		return o, terminal.UsageError(errors.New("describe one outcome: by SCENARIO and flags, by --event FILE, or by --sequence N"))
	}
	if f.event != "" {
		text, err := readFileOrStdin(f.event, p.In)
		if err != nil {
			return o, fmt.Errorf("--event: %w", err)
		}
		var event struct{ Type string }
		_ = json.Unmarshal(text, &event) // parsing the message reports what is wrong with it
		return parseOutcomeMessage(cfg.NATSPrefix, outcomeMessage(cfg.NATSPrefix, strings.TrimPrefix(event.Type, "outcome."), text)), nil
	}
	if f.sequence > 0 {
		return storedOutcome(ctx, cfg, f.sequence)
	}
	data, err := f.build(p.In)
	if err == nil {
		_, err = settlement.ParseScenario(args[0])
	}
	if err != nil {
		var invalid *settlement.Failure
		if errors.As(err, &invalid) {
			return o, err
		}
		return o, terminal.UsageError(err)
	}
	event, err := outcomeEvent(args[0], "/settled/policy/explain", "explained", data, time.Now())
	return parseOutcomeMessage(cfg.NATSPrefix, outcomeMessage(cfg.NATSPrefix, args[0], event)), err
}

// storedOutcome reads an outcome from OUTCOMES. If it is not signed as the configuration
// requires, it is invalid.
func storedOutcome(ctx context.Context, cfg *config.Config, sequence uint64) (o settlement.Outcome, err error) {
	nc, err := natsconn.Connect(cfg, "settled policy", false)
	if err != nil {
		return o, err
	}
	defer nc.Shutdown()
	o, err = outcomeReader(nc, cfg.NATSPrefix)(ctx, sequence)
	if errors.Is(err, policies.ErrGone) {
		return o, fmt.Errorf("%s has no message %d", consumer.OutcomesStream(cfg.NATSPrefix), sequence)
	}
	if err != nil {
		return o, err
	}
	if trust := cfg.TrustFunc(); trust != nil {
		if f := trust(o); f != nil {
			o.Invalid = f
		}
	}
	return o, nil
}

// readSessionAtNode reads the session of an outcome at the node. readErr is an answer of the
// node which decides about the outcome.
func readSessionAtNode(ctx context.Context, cfg *config.Config, o settlement.Outcome) (s *settlement.Session, readErr, err error) {
	node, err := openNodeReader(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: name the node, or describe the session in a file (--session FILE)", err)
	}
	defer node.Close()
	read, err := node.Session(ctx, o.Session, cfg.Policies[o.Scenario].ReadOptions(o))
	var permanent *settlement.Failure
	if errors.Is(err, settlement.ErrSessionNotFound) || errors.As(err, &permanent) {
		return nil, err, nil
	}
	if err == nil && !read.Open && read.Versioned && read.Undisclosed.Payouts {
		err = errors.New("the session is closed, and the node doesn't show what its close paid: describe the session as it was before in a file (--session FILE)")
	}
	return &read, nil, err
}
