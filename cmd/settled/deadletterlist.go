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
	var f letterFlags
	c := &cobra.Command{
		Use: "list", Short: "List dead letters, oldest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.filter(); err != nil {
				return err
			}
			return p.withLetters(cmd, "", func(ctx context.Context, d *letterRoom) error { return p.listLetters(ctx, cmd, d, f) })
		},
	}
	f.filters(c)
	return c
}

// listLetters reads one letter more than the page has, to know whether there is
// another page.
func (p *program) listLetters(ctx context.Context, cmd *cobra.Command, d *letterRoom, f letterFlags) error {
	filter, err := f.filter()
	if err != nil {
		return err
	}
	if filter.Limit > 0 {
		filter.Limit++
	}
	var rows [][]string
	var last uint64
	full := errors.New("the page is full")
	err = d.Each(ctx, filter, func(l deadletter.Letter) error {
		if f.limit > 0 && len(rows) == f.limit {
			return full
		}
		last = l.Sequence
		rows = append(rows, letterRow(l))
		if p.JSON() {
			return p.PrintJSON(l)
		}
		return nil
	})
	if err != nil && !errors.Is(err, full) {
		return err
	}
	if err := p.printLetters(rows); err != nil {
		return err
	}
	if errors.Is(err, full) {
		_, _ = fmt.Fprintf(p.Err, "There are more: %s\n", nextPage(cmd, last))
	}
	return nil
}

func (p *program) printLetters(rows [][]string) error {
	switch {
	case p.JSON():
		return nil // each was printed as it came
	case len(rows) == 0:
		return p.PrintLine("No dead letters.")
	default:
		return p.PrintTable("SEQUENCE,FAILED AT,CODE,SCENARIO,SESSION,ERROR", rows)
	}
}

func letterRow(l deadletter.Letter) []string {
	return []string{
		strconv.FormatUint(l.Sequence, 10), terminal.Clock(l.FailedAt), string(l.Code), string(l.Scenario),
		terminal.Short(l.Session.Token()), l.Error,
	}
}

// nextPage is the command for it.
func nextPage(cmd *cobra.Command, last uint64) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if strings.HasSuffix(f.Name, ".url") {
			value = config.WithoutPassword(value)
		}
		if f.Name != "after" {
			line += " --" + f.Name + "=" + quoteArgument(value)
		}
	})
	return line + " --after=" + strconv.FormatUint(last, 10)
}

func quoteArgument(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
