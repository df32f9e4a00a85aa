package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// publishFlags are the flags of `settled publish`.
type publishFlags struct {
	session, completion, data, source, id, signKey, batch string
	parties, totals                                       []string
	noCheck, dryRun                                       bool
	wait                                                  time.Duration
}

func (p *program) publishCommand() *cobra.Command {
	var f publishFlags
	c := &cobra.Command{
		Use: "publish [SCENARIO]", Short: "Publish an outcome, or many", Args: cobra.MaximumNArgs(1),
		Example: "  settled publish payment_completed --session 0xcaeb… --party provider=0x2B5A…\n  settled publish dispute_resolved --session 0xcaeb… --data ruling.json\n  settled publish --batch november.jsonl --wait=5m",
		Long:    "Publishes an outcome. It is first checked with the policies, the limits and the signers of the configuration. If the outcome\nwould fail whatever its session holds, the command publishes nothing, prints the text that its dead letter would have, and\nexits with status 1.\n\nWith --batch it publishes many outcomes, one on each line: {\"scenario\": …, \"id\": …, \"data\": {…}}, with a \"source\" unless --source is\nmeant, or a CloudEvent. All lines are checked first. The same batch can be published again after an interruption: each outcome is\nsettled once.",
		RunE:    func(cmd *cobra.Command, args []string) error { return p.publish(cmd, args, f) },
	}
	c.Flags().StringVar(&f.session, "session", "", "the app session to close")
	f.addDataFlags(c)
	c.Flags().StringVar(&f.batch, "batch", "", "file with outcomes, one on each line, or - for standard input")
	c.Flags().StringVar(&f.source, "source", "/settled/publish", "CloudEvents source")
	c.Flags().StringVar(&f.id, "id", "", "id of the outcome, unique per source; random if not given")
	c.Flags().StringVar(&f.signKey, "sign-key", "", "key file to sign the outcome with (trust.outcome_signers), hex or keystore with clearnode.password_file")
	c.Flags().BoolVar(&f.noCheck, "no-check", false, "publish without the check, for example if the service has other policies than this configuration")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "check, show what would be published and what would be paid, and publish nothing")
	c.Flags().DurationVar(&f.wait, "wait", 0, "wait for the result, as in --wait=1m; exit 0 if the session is closed, 1 if the outcome failed, 3 if there is no result in time")
	c.Flags().Lookup("wait").NoOptDefVal = "30s"
	return c
}

// addDataFlags adds the flags of the outcome's data, without the session.
func (f *publishFlags) addDataFlags(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.parties, "party", nil, "role=address; may be repeated, also for several addresses of one role")
	c.Flags().StringArrayVar(&f.totals, "total", nil, "asset=amount that the session must hold (expect.totals); may be repeated. Required with a legacy node, which doesn't report the session's balance")
	c.Flags().StringVar(&f.completion, "completion", "", "delivered part of the service, a decimal from 0 to 1")
	c.Flags().StringVar(&f.data, "data", "", "file with further data as JSON, or - for standard input")
}

// publishResult is what `settled publish` prints.
type publishResult struct {
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"sequence"`
	Duplicate bool   `json:"duplicate"`
	Source    string `json:"source"`
	ID        string `json:"id"`

	Warnings []string `json:"warnings"` // what the outcome states that has no effect
}

func (p *program) publish(cmd *cobra.Command, args []string, f publishFlags) error {
	if f.batch != "" {
		return p.publishBatch(cmd, args, f)
	}
	if len(args) == 0 {
		return terminal.UsageError(errors.New("name the SCENARIO, or give outcomes with --batch FILE"))
	}
	if f.id == "" {
		f.id = rand.Text()
	}
	data, err := f.build(p.In)
	if err == nil {
		_, err = settlement.ParseScenario(args[0])
	}
	var invalid *settlement.Failure
	if errors.As(err, &invalid) {
		return fmt.Errorf("nothing was published: %w", err)
	}
	if err != nil {
		return terminal.UsageError(err)
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	event, err := outcomeEvent(args[0], f.source, f.id, data, time.Now())
	if err != nil {
		return err
	}
	d, err := newOutcomeDraft(cmd.Context(), &cfg, args[0], f.source, f.id, event, f.signKey)
	if err != nil {
		return err
	}
	if !f.noCheck {
		if f := checkOutcome(&cfg, d.outcome); f != nil {
			return fmt.Errorf("nothing was published: %w (--no-check publishes it nevertheless)", f)
		}
	}
	p.printWarnings("", d.warnings)
	if f.dryRun {
		return p.publishDryRun(cmd.Context(), &cfg, d)
	}
	nc, err := natsconn.Connect(&cfg, "settled publish", false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	w := newResultWait(d.outcome.Ref)
	if f.wait > 0 {
		if err := w.listen(nc.Conn, cfg.NATSPrefix, d.outcome.Session); err != nil {
			return err
		}
	}
	result, err := d.publish(cmd.Context(), nc.JS, cfg.NATSPrefix)
	if err != nil {
		return err
	}
	if err := p.Print(result, result.text()); err != nil || f.wait <= 0 {
		return err
	}
	w.setSequence(result.Sequence)
	return p.waitForResult(cmd.Context(), &cfg, w, d.outcome.Session, f.wait)
}

func (r publishResult) text() string {
	if r.Duplicate {
		return fmt.Sprintf("Not stored again: %s/%d has source %s and id %s already. It is the same outcome.", r.Stream, r.Sequence, r.Source, r.ID)
	}
	return fmt.Sprintf("Published as %s/%d (source %s, id %s).", r.Stream, r.Sequence, r.Source, r.ID)
}

// printWarnings writes warnings to standard error.
func (p *program) printWarnings(where string, warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.Err, "settled: warning: %s%s\n", where, terminal.Printable(w))
	}
}

// outcomeDraft is an outcome that is ready to be published.
type outcomeDraft struct {
	source, id string
	msg        *nats.Msg
	outcome    settlement.Outcome
	warnings   []string
}

// newOutcomeDraft makes the message of an event, signed if a key is given.
func newOutcomeDraft(ctx context.Context, cfg *config.Config, scenario, source, id string, event []byte, signKey string) (outcomeDraft, error) {
	d := outcomeDraft{source: source, id: id, msg: outcomeMessage(cfg.NATSPrefix, scenario, event)}
	if signKey != "" {
		if err := signOutcome(ctx, d.msg, cfg.NATSPrefix, signKey, cfg.NodePasswordFile); err != nil {
			return d, fmt.Errorf("--sign-key: %w", err)
		}
	}
	d.outcome = parseOutcomeMessage(cfg.NATSPrefix, d.msg)
	d.warnings = append([]string{}, cfg.Policies.Warnings(d.outcome)...)
	return d, nil
}

func (d outcomeDraft) publish(ctx context.Context, js jetstream.JetStream, prefix string) (publishResult, error) {
	result, err := publishOutcome(ctx, js, prefix, d.source, d.id, d.msg)
	result.Warnings = d.warnings
	return result, err
}

// build assembles the outcome's data from flags and file.
func (f publishFlags) build(stdin io.Reader) (map[string]json.RawMessage, error) {
	data := map[string]json.RawMessage{}
	if f.data != "" {
		text, err := readFileOrStdin(f.data, stdin)
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		if _, err := settlement.Canonical(text); err != nil {
			return nil, settlement.Fail(settlement.InvalidOutcome, "data: %s", err) // a duplicate name, for example, which json.Unmarshal removes
		}
		if err := json.Unmarshal(text, &data); err != nil || data == nil {
			return nil, settlement.Fail(settlement.InvalidOutcome, "data: want a JSON object")
		}
	}
	if f.session != "" {
		data["session_id"] = quoteJSON(f.session)
	}
	if data["session_id"] == nil && f.data == "" {
		return nil, errors.New("--session is not given: name the app session to close")
	}
	if f.completion != "" {
		data["completion"] = quoteJSON(f.completion)
	}
	totals, err := f.totalMembers()
	if err != nil {
		return nil, err
	}
	if totals != nil {
		if data["expect"], err = json.Marshal(map[string]any{"totals": totals}); err != nil {
			return nil, err
		}
	}
	parties, err := f.partyMembers()
	if err != nil || parties == nil {
		return data, err
	}
	data["parties"], err = json.Marshal(parties)
	return data, err
}

func (f publishFlags) totalMembers() ([]map[string]string, error) {
	var totals []map[string]string
	for _, pair := range f.totals {
		asset, amount, found := strings.Cut(pair, "=")
		if !found || asset == "" {
			return nil, fmt.Errorf("--total %q: want asset=amount", pair)
		}
		totals = append(totals, map[string]string{"asset": asset, "amount": amount})
	}
	return totals, nil
}

func (f publishFlags) partyMembers() (map[string][]string, error) {
	var parties map[string][]string
	for _, pair := range f.parties {
		role, address, found := strings.Cut(pair, "=")
		if !found || role == "" {
			return nil, fmt.Errorf("--party %q: want role=address", pair)
		}
		if parties == nil {
			parties = map[string][]string{}
		}
		parties[role] = append(parties[role], address)
	}
	return parties, nil
}

func quoteJSON(s string) json.RawMessage {
	text, _ := json.Marshal(s) // a string always marshals
	return text
}

func readFileOrStdin(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path) // #nosec G304 -- the user names the file
}

// outcomeEvent returns an outcome as a structured CloudEvent.
func outcomeEvent(scenario, source, id string, data any, now time.Time) ([]byte, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Time            string          `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
	}{"1.0", id, source, "outcome." + scenario, now.UTC().Format(time.RFC3339Nano), "application/json", text})
}

func outcomeMessage(prefix, scenario string, event []byte) *nats.Msg {
	msg := nats.NewMsg(consumer.OutcomeSubject(prefix, settlement.Scenario(scenario)))
	msg.Header.Set("Content-Type", "application/cloudevents+json")
	msg.Data = event
	return msg
}

// publishTime bounds a publish, and firstPublish its first attempt. Each later attempt may
// take twice as long as the one before, for a slow server.
const (
	publishTime  = 10 * time.Second
	firstPublish = time.Second
)

// publishOutcome stores an outcome's message in the stream of outcomes. If no answer comes,
// for example because the connection breaks, it publishes again with the same message id.
// If the server already has a message with that id, it reads that message, because any
// publisher can have used the id. If the stored message differs or can't be read, this
// outcome is published with a new message id. It is settled once in any case.
func publishOutcome(ctx context.Context, js jetstream.JetStream, prefix, source, id string, msg *nats.Msg) (publishResult, error) {
	o := parseOutcomeMessage(prefix, msg)
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	result := publishResult{Source: source, ID: id}
	messageID := consumer.MessageID(source, id, o.Ref.Digest)
	for wait := firstPublish; ; wait *= 2 {
		ack, err := publishOnce(ctx, js, msg, messageID, wait)
		switch {
		case err == nil && !ack.Duplicate:
			result.Stream, result.Sequence = ack.Stream, ack.Sequence
			return result, nil
		case err == nil:
			result.Stream, result.Sequence = ack.Stream, ack.Sequence
			ours, same := matchStored(ctx, js, prefix, ack.Sequence, msg, o)
			if same {
				result.Duplicate = !ours
				return result, nil
			}
			messageID += "/" + rand.Text()
			wait = firstPublish / 2
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !isDenied(js.Conn(), prefix):
		default:
			return publishResult{}, publishError(js.Conn(), err, prefix, source, id, msg)
		}
	}
}

// parseOutcomeMessage parses the outcome in a message. Its Invalid says what is wrong with it.
func parseOutcomeMessage(prefix string, msg *nats.Msg) settlement.Outcome {
	o, _ := settlement.ParseOutcome(cloudevent.Read(msg.Subject, msg.Header, msg.Data, "", 0, prefix))
	return o
}

// matchStored reads the message at a sequence and compares it with this one. ours: subject,
// signature and payload are equal. same: it is the same outcome for the same session, with
// the same signature.
func matchStored(ctx context.Context, js jetstream.JetStream, prefix string, sequence uint64, msg *nats.Msg, o settlement.Outcome) (ours, same bool) {
	ctx, cancel := context.WithTimeout(ctx, firstPublish)
	defer cancel()
	stream, err := js.Stream(ctx, consumer.OutcomesStream(prefix))
	if err != nil {
		return false, false // a publisher need not have the right to read
	}
	there, err := stream.GetMsg(ctx, sequence)
	if err != nil || there.Subject != msg.Subject || there.Header.Get(consumer.SignatureHeader) != msg.Header.Get(consumer.SignatureHeader) {
		return false, false
	}
	if bytes.Equal(there.Data, msg.Data) {
		return true, true
	}
	other := parseOutcomeMessage(prefix, &nats.Msg{Subject: there.Subject, Header: there.Header, Data: there.Data})
	return false, (other.Invalid == nil) == (o.Invalid == nil) && other.Ref.Same(o.Ref) && other.Session == o.Session
}

// publishError adds to an error whether the outcome is stored, if known, and what to do.
func publishError(nc *nats.Conn, err error, prefix, source, id string, msg *nats.Msg) error {
	again := fmt.Sprintf("publish it again with --source %q --id %q", source, id)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish to %s: %w: nothing was stored; the server accepts at most %d bytes", msg.Subject, err, nc.MaxPayload())
	case isDenied(nc, prefix):
		return fmt.Errorf("publish to %s: %w: nothing was stored", msg.Subject, nc.LastError())
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("publish to %s: %w: nothing was stored. Either stream %s does not exist (`settled serve` creates it), or too few NATS servers run. Correct that, then %s", msg.Subject, err, consumer.OutcomesStream(prefix), again)
	case errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("publish to %s: %w: nothing was stored: the message has %d bytes, more than stream %s accepts; make the outcome's data smaller", msg.Subject, err, len(msg.Data), consumer.OutcomesStream(prefix))
	case errors.As(err, &api) && api.Code < 500:
		return fmt.Errorf("publish to %s: %w: the server refused it and nothing was stored; correct the cause, then %s", msg.Subject, err, again)
	case errors.As(err, &api) && isOutOfSpace(api):
		return fmt.Errorf("publish to %s: %w: nothing was stored; once the stream has room, %s", msg.Subject, err, again)
	default:
		return fmt.Errorf("publish to %s: %w: it is unknown whether the message was stored; %s: the session is settled only once", msg.Subject, err, again)
	}
}

// isDenied reports whether the server denied the connection something other than to subscribe
// to results.
func isDenied(nc *nats.Conn, prefix string) bool {
	last := nc.LastError()
	return errors.Is(last, nats.ErrPermissionViolation) && !strings.Contains(last.Error(), `"`+prefix+"settlement.")
}

// isOutOfSpace reports whether the server rejected a message for lack of space: of the
// server, the account, its storage, or the stream.
func isOutOfSpace(api *jetstream.APIError) bool {
	const storeFailed = 10077 // the description is the store's own error text
	return slices.Contains([]jetstream.ErrorCode{10023, 10028, 10047}, api.ErrorCode) ||
		api.ErrorCode == storeFailed && strings.HasPrefix(api.Description, "maximum ")
}

func publishOnce(ctx context.Context, js jetstream.JetStream, msg *nats.Msg, id string, wait time.Duration) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return js.PublishMsg(ctx, msg, jetstream.WithMsgID(id))
}

// signOutcome adds the signature of a message's outcome to its header.
func signOutcome(ctx context.Context, msg *nats.Msg, prefix, keyFile, passwordFile string) error {
	signer, err := clearnode.LoadKeyFile(keyFile, passwordFile)
	if err != nil {
		return err
	}
	signature, err := clearnode.SignMessage(ctx, signer, parseOutcomeMessage(prefix, msg).Ref.SignedText())
	msg.Header.Set(consumer.SignatureHeader, signature)
	return err
}

// checkOutcome returns why an outcome would fail with this configuration, whatever its
// session holds. It returns nil if the outcome would not fail, or if that depends on its
// session. The signature is checked first: without a valid one the outcome fails anyway.
func checkOutcome(cfg *config.Config, o settlement.Outcome) *settlement.Failure {
	if trust := cfg.TrustFunc(); trust != nil {
		if f := trust(o); f != nil {
			return f
		}
	}
	return cfg.Policies.Check(o, cfg.Limits)
}

// publishPreview is what `settled publish --dry-run` prints.
type publishPreview struct {
	Subject   string          `json:"subject"`
	Event     json.RawMessage `json:"event"`
	Signature string          `json:"signature,omitempty"`
	Warnings  []string        `json:"warnings"` // what the outcome states that has no effect
	Forecast  status.Forecast `json:"forecast"` // unknown if the node or the ledger can't be read
}

// publishDryRun prints the message of an outcome and, if the ledger and the node can be
// read, its result if it were published now. It returns an error if the outcome would fail.
func (p *program) publishDryRun(ctx context.Context, cfg *config.Config, d outcomeDraft) error {
	msg, o := d.msg, d.outcome
	result := publishPreview{Subject: msg.Subject, Event: msg.Data, Signature: msg.Header.Get(consumer.SignatureHeader), Warnings: d.warnings}
	result.Forecast = status.Forecast{Session: o.Session, Scenario: o.Scenario, Allocations: []settlement.Allocation{}, Would: "unknown"}
	if f, err := forecastOutcome(ctx, cfg, o); err != nil {
		result.Forecast.Message = err.Error()
	} else {
		result.Forecast = f
	}
	text := fmt.Sprintf("Not published (--dry-run). The message would be, on %s:\n%s\n", msg.Subject, terminal.EscapeJSON(msg.Data))
	if result.Signature != "" {
		text += fmt.Sprintf("%s: %s\n", consumer.SignatureHeader, result.Signature)
	}
	if err := p.Print(result, text+"Forecast: "+result.Forecast.Text()); err != nil {
		return err
	}
	if f := result.Forecast; f.Would == "fail" {
		return fmt.Errorf("the outcome would fail with %s: %s", f.Code, f.Message)
	}
	return nil
}

// forecastOutcome returns what would become of an outcome if it were published now.
func forecastOutcome(ctx context.Context, cfg *config.Config, o settlement.Outcome) (status.Forecast, error) {
	nc, err := natsconn.Connect(natsconn.AsOperator(cfg), "settled publish", false)
	if err != nil {
		return status.Forecast{}, err
	}
	defer nc.Shutdown()
	preview := newReplayPreview(ctx, cfg, nc)
	defer preview.close()
	return preview.forecast(ctx, o)
}
