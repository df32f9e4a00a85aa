package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
)

// replayFlags are the flags of `settled deadletter replay`.
type replayFlags struct {
	deadLetterFlags
	rate         string
	dryRun, edit bool
}

func (p *program) deadletterReplay() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use: "replay SEQUENCE… | --all", Short: "Publish dead letters again, and remove them", Args: cobra.ArbitraryArgs,
		Long: "Publishes each dead letter's message again under a new sequence, then removes the dead letter. It is safe at\nany time, also twice and from two terminals: settled checks its ledger and the node before it pays. Ctrl-C\nfinishes the current one; the same command then continues from there.",
		Example: "  settled deadletter replay 17 --dry-run        # the result that it would have now\n  settled deadletter replay 17 --edit           # edit its payload first\n" +
			"  settled deadletter replay --all --code node_rejected --rate 20/s",
		RunE: func(cmd *cobra.Command, args []string) error { return p.replay(cmd, f, args) },
	}
	f.addActionFlags(c)
	c.Flags().StringVar(&f.rate, "rate", "", "maximum rate, such as 50/s, 600/m or 100/h; no limit if not given")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "print the result that each would have now, by ledger and node; nothing is published")
	c.Flags().BoolVar(&f.edit, "edit", false, "edit the payload in $EDITOR first; it must be a valid outcome. One dead letter only")
	return c
}

func (p *program) replay(cmd *cobra.Command, f replayFlags, args []string) error {
	limit, err := terminal.ParseRate(f.rate)
	if err != nil {
		return err
	}
	w := deadLetterBatch{program: p, flags: f.deadLetterFlags, args: args, limit: limit}
	switch {
	case f.edit && (f.all || len(args) != 1 || f.dryRun):
		return terminal.UsageError(errors.New("--edit is for one dead letter: name its sequence, and neither --all nor --dry-run"))
	case f.edit:
		return p.replayEdited(cmd, f, args)
	case f.dryRun:
		return p.dryRun(cmd, w)
	}
	w.processFunc = func(ctx context.Context, d *deadLetterClient, sequence uint64) (any, string, error) {
		r, err := d.Replay(ctx, sequence)
		return r, fmt.Sprintf("Dead letter %d is replayed as %s/%d.", sequence, r.Stream, r.Sequence), err
	}
	return w.run(cmd)
}

// dryRun prints the result that each dead letter would have now.
func (p *program) dryRun(cmd *cobra.Command, w deadLetterBatch) error {
	var o *replayPreview
	defer func() {
		if o != nil {
			o.close()
		}
	}()
	w.processFunc = func(ctx context.Context, d *deadLetterClient, sequence uint64) (any, string, error) {
		if o == nil {
			o = newReplayPreview(ctx, d.cfg, d.nats)
		}
		l, err := d.Get(ctx, sequence)
		if err != nil {
			return nil, "", err
		}
		f, err := o.forecast(ctx, d.Outcome(l))
		f.DeadLetter = sequence
		return f, fmt.Sprintf("Dead letter %d: %s", sequence, f.Text()), err
	}
	return w.run(cmd)
}

// replayEdited lets the user edit a dead letter's payload, and replays that.
func (p *program) replayEdited(cmd *cobra.Command, f replayFlags, args []string) error {
	sequences, err := sequenceArguments(args)
	if err != nil {
		return err
	}
	return p.withDeadLetters(cmd, f.as, func(ctx context.Context, d *deadLetterClient) error {
		l, err := d.Get(ctx, sequences[0])
		if err != nil {
			return err
		}
		edited, err := p.edit(ctx, d, l)
		if err != nil {
			return fmt.Errorf("dead letter %d is left as it is: %w", l.Sequence, err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadLetterTimeout)
		defer cancel()
		r, err := d.ReplayEdited(ctx, edited)
		if err != nil {
			return err
		}
		return p.Print(r, fmt.Sprintf("Dead letter %d is replayed, edited, as %s/%d.", l.Sequence, r.Stream, r.Sequence))
	})
}

// edit opens the payload in an editor until it is a valid outcome or the user gives up.
// Nothing is changed before that.
func (p *program) edit(ctx context.Context, d *deadLetterClient, l deadletter.Letter) (deadletter.Letter, error) {
	file, err := os.CreateTemp("", "settled-deadletter-*.json")
	if err != nil {
		return l, err
	}
	name, before := file.Name(), indentJSON(l.Payload)
	defer func() { _ = os.Remove(name) }()
	_, err = file.Write(before)
	if err := errors.Join(err, file.Close()); err != nil {
		return l, err
	}
	answers := bufio.NewReader(p.In)
	for {
		if err := p.runEditor(ctx, name); err != nil {
			return l, err
		}
		after, err := os.ReadFile(name) // #nosec G304 -- our own temporary file
		if err != nil {
			return l, err
		}
		if bytes.Equal(after, before) {
			return l, errors.New("nothing was changed; without --edit it is replayed as it is")
		}
		edited, err := d.Edit(l, bytes.TrimSpace(after))
		if err == nil {
			return edited, nil
		}
		_, _ = fmt.Fprintf(p.Err, "This is no valid outcome: %s\nEdit it again? [Y/n] ", terminal.Printable(err.Error()))
		if !readConfirmation(answers) {
			return l, err
		}
	}
}

// indentJSON adds line breaks to a payload, which don't change the meaning of an outcome.
func indentJSON(payload []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, payload, "", "  ") != nil {
		return payload
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// runEditor runs the editor on stderr: stdout is for the result only.
func (p *program) runEditor(ctx context.Context, file string) error {
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			editor = value
		}
	}
	// By a shell, since $EDITOR may include arguments.
	c := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file) // #nosec G204 G702 -- the user's own editor
	if stdin, ok := p.In.(*os.File); ok {
		c.Stdin = stdin
	}
	c.Stdout, c.Stderr = p.Err, p.Err
	if err := c.Run(); err != nil {
		return fmt.Errorf("editor %s: %w: set $EDITOR to one that is installed", editor, err)
	}
	return nil
}

// readConfirmation reads an answer; end of input counts as no.
func readConfirmation(answers *bufio.Reader) bool {
	line, err := answers.ReadString('\n')
	if err != nil {
		return false
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "" || strings.HasPrefix(line, "y")
}
