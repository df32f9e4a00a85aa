package main

import "github.com/spf13/cobra"

func (p *program) deadletterCommand() *cobra.Command { return unbuilt("deadletter") }
