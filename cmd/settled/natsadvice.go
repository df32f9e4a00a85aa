package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// natsRefusals keeps the first permission that NATS denied to a command. The server
// tells it beside the call, which itself only runs out of time.
type natsRefusals struct {
	mu    sync.Mutex
	first error
}

// note is a nats.ErrHandler.
func (r *natsRefusals) note(_ *nats.Conn, _ *nats.Subscription, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil && errors.Is(err, nats.ErrPermissionViolation) {
		r.first = err
	}
}

func (r *natsRefusals) found() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first
}

// explained adds to an error of any command what NATS has to do with it.
func (p *program) explained(cmd *cobra.Command) {
	if act := cmd.RunE; act != nil {
		cmd.RunE = func(c *cobra.Command, args []string) error { return p.explain(act(c, args)) }
	}
	for _, sub := range cmd.Commands() {
		p.explained(sub)
	}
}

func (p *program) explain(err error) error {
	var wrong misuse
	if err == nil || errors.As(err, &wrong) {
		return err
	}
	if refused := p.refusals.found(); refused != nil {
		return fmt.Errorf("%w\nNATS refuses something to the user of nats.url: %w; deploy/nats/users.conf has who may do what", err, refused)
	}
	if natsAway(err) {
		return fmt.Errorf("%w\nNATS, or the node, doesn't answer as it should: `settled doctor`, with the service's --config, says what is wrong", err)
	}
	return err
}

// connectAdvice is what to do where no connection came about.
func connectAdvice(err error) string {
	if isAuthError(err) {
		return "it runs, and doesn't know this user, password or key: correct nats.url, nats.credentials_file or nats.nkey_file"
	}
	return "is it running, and is nats.url right?"
}
