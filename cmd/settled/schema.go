package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/sim"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	shipped "settled/deploy"
	"settled/ledger"
	"settled/settlement/spelling"
)

// commandSchemas are the JSON Schemas of what the commands print, as schema/<name>.json.
// `make docs` writes them.
//
//go:embed schema/*.json
var commandSchemas embed.FS

// schemaListing is one line of `settled schema --output json`.
type schemaListing struct {
	Name  string `json:"name"` // argument of settled schema
	Title string `json:"title"`
	text  []byte
}

func (p *program) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema [NAME]", Short: "Print the JSON Schema of a message, a result or an answer; without a name, list them", Args: cobra.MaximumNArgs(1),
		Long: "Prints the JSON Schema (2020-12) of an outcome, a ledger entry, a dead letter, a record of operations, the output of\na command, an answer of the HTTP API, the micro service or the simulated node's control API, or a manifest. asyncapi\nis the AsyncAPI document. Without a name it lists them.",
		RunE: func(_ *cobra.Command, args []string) error {
			schemas, err := listSchemas()
			if err != nil {
				return err
			}
			schemas = append(schemas, schemaListing{"asyncapi", "AsyncAPI 3.0 document: subjects, streams, messages and permissions", shipped.AsyncAPI})
			if len(args) == 0 {
				return p.printSchemas(schemas)
			}
			var names []string
			for _, s := range schemas {
				if s.Name == args[0] {
					return p.PrintLine(strings.TrimSpace(string(s.text)))
				}
				names = append(names, s.Name)
			}
			return terminal.UsageError(fmt.Errorf("there is no schema %q: did you mean %q? `settled schema` lists all", args[0], spelling.Nearest(args[0], names)))
		},
	}
}

func (p *program) printSchemas(schemas []schemaListing) error {
	var rows [][]string
	for _, s := range schemas {
		if p.JSON() {
			if err := p.PrintJSON(s); err != nil {
				return err
			}
		}
		rows = append(rows, []string{s.Name, s.Title})
	}
	if p.JSON() {
		return nil
	}
	return p.PrintTable("NAME,DESCRIBES", rows)
}

// listSchemas returns all schemas: those of messages first, then those of answers and results.
func listSchemas() ([]schemaListing, error) {
	var list []schemaListing
	for _, root := range []fs.FS{consumer.Schemas, ledger.Schemas, dashboard.Schemas, sim.Schemas, commandSchemas} {
		files, err := fs.Glob(root, "schema/*.json")
		if err != nil {
			return nil, err
		}
		slices.Sort(files)
		for _, file := range files {
			s := schemaListing{Name: strings.TrimSuffix(path.Base(file), ".json")}
			if s.text, err = fs.ReadFile(root, file); err != nil {
				return nil, err
			}
			if err := json.Unmarshal(s.text, &s); err != nil {
				return nil, fmt.Errorf("schema %s: %w", s.Name, err)
			}
			list = append(list, s)
		}
	}
	return list, nil
}
