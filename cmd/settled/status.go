package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// statusFlags are the flags of `settled status`.
type statusFlags struct {
	source, id string
	last       uint64
}

func (p *program) statusCommand() *cobra.Command {
	var f statusFlags
	c := &cobra.Command{
		Use: "status [SEQUENCE | SESSION | --source SOURCE --id ID]", Short: "Tell what became of an outcome", Args: cobra.MaximumNArgs(1),
		Example: "  settled status 17\n  settled status 0xcaeb…\n  settled status --source /shop --id order-4711",
		Long: `Tells what became of an outcome: waiting (why, and since when), closing (until when a request may take effect), closed (who
got what), failed (why, and what to do), or lost (acknowledged without a result). The outcome is named by the sequence of its
message in OUTCOMES, which ` + "`settled publish`" + ` and the answer to every publish state, by its session, or by its source and id.

It reads what NATS has stored; neither the node nor ` + "`settled serve`" + ` has to run. Why an outcome waits that a replica has
tried, and when it is tried again, that replica is asked. A user who may not read the streams asks a replica for everything.

Exits with 0 if the outcome is closed, 1 if it failed or is lost, 3 if it has no result yet, and 4 if there is no such outcome.`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.status(cmd, args, f) },
	}
	c.Flags().StringVar(&f.source, "source", "", "CloudEvents source of the outcome, with --id")
	c.Flags().StringVar(&f.id, "id", "", "CloudEvents id of the outcome, with --source")
	c.Flags().Uint64Var(&f.last, "last", 100_000, "with --id, how many of the newest messages are searched; 0: all")
	return c
}

// errNoResult says that an outcome has failed or is lost; the answer says why.
var errNoResult = errors.New("the session was not closed by this outcome")

func (p *program) status(cmd *cobra.Command, args []string, f statusFlags) error {
	q, err := f.question(args)
	if err != nil {
		return terminal.UsageError(err)
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	nc, err := natsconn.Connect(natsconn.AsOperator(&cfg), "settled status", false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	bar := p.Progress("outcomes")
	r := &status.Reader{JS: nc.JS, Consumer: cfg.Consumer(), Policies: cfg.Policies, ProgressFunc: func(done, all uint64) { bar.Update(done, all, "") }}
	answer, err := r.Ask(cmd.Context(), q, f.last)
	bar.Clear()
	if err != nil && !errors.Is(err, status.ErrNotFound) {
		answer, err = askReplica(cmd.Context(), nc.Conn, cfg.NATSPrefix, q, err)
	} else if answer.State == status.Waiting || answer.State == status.Closing {
		addProgress(cmd.Context(), nc.Conn, cfg.NATSPrefix, &answer)
	}
	if err != nil {
		return err
	}
	if err := p.Print(answer, answer.Text()); err != nil {
		return err
	}
	switch answer.State {
	case status.Closed:
		return nil
	case status.Failed:
		return fmt.Errorf("%w: it failed with %s", errNoResult, answer.Code)
	case status.Lost:
		return fmt.Errorf("%w: %s", errNoResult, answer.Message)
	default:
		return fmt.Errorf("%w: the outcome is %s", errStillWaiting, answer.State)
	}
}

// question returns what the arguments ask for.
func (f statusFlags) question(args []string) (q status.Question, err error) {
	byID := f.source != "" || f.id != ""
	switch {
	case byID == (len(args) > 0), byID && (f.source == "" || f.id == ""):
		return q, errors.New("name one outcome: by the SEQUENCE of its message, by its SESSION, or by --source and --id")
	case byID:
		return status.Question{Source: f.source, ID: f.id}, nil
	}
	if q.Sequence, err = strconv.ParseUint(args[0], 10, 64); err == nil && q.Sequence > 0 {
		return q, nil
	}
	if _, err := settlement.ParseSessionID(args[0]); err != nil {
		return q, fmt.Errorf("%q is neither the sequence of a message in OUTCOMES nor a session id (0x and 64 hex digits)", args[0])
	}
	return status.Question{Session: args[0]}, nil
}

// replicaTime bounds a question to a replica, and progressTime one that only the replica that
// knows the outcome answers.
const (
	replicaTime  = 10 * time.Second
	progressTime = 500 * time.Millisecond
)

// askReplica asks a replica for the status, for a user who may not read the streams. If no
// replica answers, it returns the error of reading them.
func askReplica(ctx context.Context, nc *nats.Conn, prefix string, q status.Question, readErr error) (a status.Answer, err error) {
	m, err := request(ctx, nc, prefix+status.StatusSubject, q, replicaTime)
	if err != nil {
		return a, fmt.Errorf("%w; and no replica answers: %w", readErr, err)
	}
	switch code, text := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader); code {
	case "":
		return a, json.Unmarshal(m.Data, &a)
	case "404":
		return a, fmt.Errorf("%w: the replica says: %s", status.ErrNotFound, text)
	default:
		return a, fmt.Errorf("the replica says: %s", text)
	}
}

// addProgress adds what the replica knows that returned the outcome to the stream, if it
// answers.
func addProgress(ctx context.Context, nc *nats.Conn, prefix string, a *status.Answer) {
	m, err := request(ctx, nc, prefix+status.WaitingSubject, status.Question{Sequence: a.Outcome.Sequence}, progressTime)
	var p status.Progress
	if err == nil && m.Header.Get(micro.ErrorCodeHeader) == "" && json.Unmarshal(m.Data, &p) == nil {
		a.SetProgress(p)
	}
}

func request(ctx context.Context, nc *nats.Conn, subject string, q status.Question, most time.Duration) (*nats.Msg, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return nc.RequestWithContext(ctx, subject, data)
}
