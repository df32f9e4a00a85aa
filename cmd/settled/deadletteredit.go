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

// replayEdited has a letter's payload edited, and replays that.
func (p *program) replayEdited(cmd *cobra.Command, f replayFlags, args []string) error {
	sequences, err := sequenceArguments(args)
	if err != nil {
		return err
	}
	return p.withLetters(cmd, f.as, func(ctx context.Context, d *letterRoom) error {
		l, err := d.Get(ctx, sequences[0])
		if err != nil {
			return err
		}
		edited, err := p.edit(ctx, d, l)
		if err != nil {
			return fmt.Errorf("dead letter %d is left as it is: %w", l.Sequence, err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letterTime)
		defer cancel()
		r, err := d.ReplayEdited(ctx, edited)
		if err != nil {
			return err
		}
		return p.Print(r, fmt.Sprintf("Dead letter %d is replayed, edited, as %s/%d.", l.Sequence, r.Stream, r.Sequence))
	})
}

// edit opens the payload in an editor, again and again until it is a valid outcome or
// the user gives up. Nothing is changed before that.
func (p *program) edit(ctx context.Context, d *letterRoom, l deadletter.Letter) (deadletter.Letter, error) {
	file, err := os.CreateTemp("", "settled-deadletter-*.json")
	if err != nil {
		return l, err
	}
	name, before := file.Name(), editable(l.Payload)
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
		if !yes(answers) {
			return l, err
		}
	}
}

// editable is a payload as it is easiest to edit: JSON with line breaks. What an
// outcome says doesn't depend on them.
func editable(payload []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, payload, "", "  ") != nil {
		return payload
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// runEditor leaves stdout to the result: an editor draws on stderr as well.
func (p *program) runEditor(ctx context.Context, file string) error {
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			editor = value
		}
	}
	// By a shell, for $EDITOR may have arguments of its own.
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

// yes reads an answer; the end of the input is none.
func yes(answers *bufio.Reader) bool {
	line, err := answers.ReadString('\n')
	if err != nil {
		return false
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "" || strings.HasPrefix(line, "y")
}
