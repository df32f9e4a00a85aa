package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/telemetry"
)

// version is set by the build (-ldflags "-X main.version=v1.2.3").
var version = "dev"

func init() { telemetry.Version = version }

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			b := telemetry.Build()
			text := fmt.Sprintf("settled %s (%s, %s)", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				text += " " + b.Revision
			}
			return p.Print(b, text)
		},
	}
}
