package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
)

func (p *program) deadletterList() *cobra.Command {
	var f deadLetterFlags
	c := &cobra.Command{
		Use: "list", Short: "List dead letters, oldest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.filter(); err != nil {
				return err
			}
			return p.withDeadLetters(cmd, "", func(ctx context.Context, d *deadLetterClient) error { return p.listDeadLetters(ctx, cmd, d, f) })
		},
	}
	f.addFilterFlags(c)
	return c
}

// listDeadLetters reads one dead letter more than the page holds, to know whether there is
// another page.
func (p *program) listDeadLetters(ctx context.Context, cmd *cobra.Command, d *deadLetterClient, f deadLetterFlags) error {
	filter, err := f.filter()
	if err != nil {
		return err
	}
	if filter.Limit > 0 {
		filter.Limit++
	}
	var rows [][]string
	var last uint64
	full := errors.New("page is full")
	err = d.Each(ctx, filter, func(l deadletter.Letter) error {
		if f.limit > 0 && len(rows) == f.limit {
			return full
		}
		last = l.Sequence
		rows = append(rows, deadLetterRow(l))
		if p.JSON() {
			return p.PrintJSON(l)
		}
		return nil
	})
	if err != nil && !errors.Is(err, full) {
		return err
	}
	if err := p.printDeadLetters(rows); err != nil {
		return err
	}
	if errors.Is(err, full) {
		_, _ = fmt.Fprintf(p.Err, "There are more: %s\n", nextPageCommand(cmd, last))
	}
	return nil
}

func (p *program) printDeadLetters(rows [][]string) error {
	switch {
	case p.JSON():
		return nil // each was printed as it came
	case len(rows) == 0:
		return p.PrintLine("No dead letters.")
	default:
		return p.PrintTable("SEQUENCE,FAILED AT,CODE,SCENARIO,SESSION,ERROR", rows)
	}
}

func deadLetterRow(l deadletter.Letter) []string {
	return []string{
		strconv.FormatUint(l.Sequence, 10), terminal.FormatTime(l.FailedAt), string(l.Code), string(l.Scenario),
		terminal.Abbreviate(l.Session.Token()), l.Error,
	}
}

// nextPageCommand returns the command that lists the next page.
func nextPageCommand(cmd *cobra.Command, last uint64) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if strings.HasSuffix(f.Name, ".url") {
			value = config.RedactURL(value)
		}
		if f.Name != "after" {
			line += " --" + f.Name + "=" + quoteShell(value)
		}
	})
	return line + " --after=" + strconv.FormatUint(last, 10)
}

func quoteShell(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
