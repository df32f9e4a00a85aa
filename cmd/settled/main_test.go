package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// runAsSettled in the environment makes the test binary the program itself, for
// tests that end processes.
const runAsSettled = "TEST_RUN_AS_SETTLED"

// TestMain lets the scripts call settled as a command.
func TestMain(m *testing.M) {
	if os.Getenv(runAsSettled) != "" {
		main()
		return
	}
	if protocol := os.Getenv(runAsOutside); protocol != "" {
		if err := mainOutside(protocol); err != nil {
			panic(err)
		}
		return
	}
	state, err := os.MkdirTemp("", "settled-state")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(state) }()
	if err := os.Setenv("XDG_STATE_HOME", state); err != nil { // what services remember
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"settled": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(runChecked(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// The commands as a user sees them: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
