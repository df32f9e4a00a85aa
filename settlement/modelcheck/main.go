// Command modelcheck visits every state of a small model of the settlement loop, and
// reports the shortest way to a violation. See README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	only := flag.String("case", "", "cases whose name contains this; empty: all")
	off := flag.String("off", "", "switch this rule off in these cases, and print the trace")
	limit := flag.Int("limit", 30_000_000, "states at most")
	list := flag.Bool("rules", false, "list the rules")
	out := flag.String("out", "", "write the table of cases into this file, between its markers")
	flag.Parse()
	if *list {
		for _, f := range ruleFields {
			fmt.Printf("%-20s off: %s\n", f.Tag.Get("rule"), f.Tag.Get("off"))
		}
		return
	}
	if err := run(*only, *off, *limit, *out); err != nil {
		fmt.Fprintln(os.Stderr, "modelcheck:", err)
		os.Exit(1)
	}
}

func run(only, off string, limit int, out string) error {
	var rows []string
	wrong := 0
	for _, k := range cases() {
		if !strings.Contains(k.Name, only) {
			continue
		}
		if off != "" {
			k.Off = off
		}
		began := time.Now()
		r, err := k.run(limit)
		if err != nil {
			return err
		}
		row := k.row(r)
		fmt.Printf("%s  (%.1f s)\n", row, time.Since(began).Seconds())
		rows = append(rows, row)
		if why := k.wrong(r); why != "" || off != "" {
			fmt.Println("  ", why)
			for i, l := range r.Trace {
				fmt.Printf("  %3d %s\n", i+1, l)
			}
			if why != "" && off == "" {
				wrong++
			}
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d cases are not as expected", wrong)
	}
	if out != "" {
		return writeTable(out, rows)
	}
	return nil
}
