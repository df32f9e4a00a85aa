package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
)

// limitedServer is a server whose one account has JetStream limits; what is connected to it
// is the configuration's.
func limitedServer(t *testing.T, limits string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\naccounts { A { jetstream: { max_mem: 10M, max_store: 200M, %s }, users: [ {user: s, password: p} ] } }\n", dir, limits)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	options, err := server.ProcessConfigFile(file)
	must(t, err)
	ns := startNATS(t, options)
	c := defaults(t)
	c.NATSURL = strings.Replace(ns.ClientURL(), "nats://", "nats://s:p@", 1)
	return c
}

// defaults is the configuration of an empty file.
func defaults(t *testing.T) *config.Config {
	t.Helper()
	c := new(config.Config)
	for _, k := range c.Keys() {
		must(t, k.Set(k.Default))
	}
	return c
}

// created makes the four streams and the durable, as serve does.
func created(t *testing.T, c *config.Config) (*natsconn.Link, error) {
	t.Helper()
	link, err := natsconn.Connect(c, "test", false)
	must(t, err)
	t.Cleanup(link.Shutdown)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := ledger.Open(ctx, link.JS, c.Ledger()); err != nil {
		return link, natsconn.WithLimitAdvice(err)
	}
	if _, err := consumer.EnsureStreams(ctx, link.JS, c.Consumer()); err != nil {
		return link, natsconn.WithLimitAdvice(err)
	}
	_, _, err = consumer.EnsureDurable(ctx, link.JS, c.Consumer())
	return link, natsconn.WithLimitAdvice(err)
}

// TestLimitsOfAnAccount: where an account's limits refuse a stream, serve names the limit
// and what to set, and so does doctor.
func TestLimitsOfAnAccount(t *testing.T) {
	for limits, want := range map[string]string{
		"max_bytes_required: true":         "nats.max_bytes.settlements",
		"max_streams: 2":                   "max_streams",
		"max_streams: 4, max_consumers: 0": "",
	} {
		c := limitedServer(t, limits)
		link, err := created(t, c)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", limits, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", limits, err, want)
		}
		var found []doctor.Finding
		d := &doctor.Doctor{Cfg: c, NATS: link, ReportFunc: func(f doctor.Finding) { found = append(found, f) }}
		d.CheckJetStream(t.Context(), nil)
		d.CheckStreams(t.Context())
		d.CheckLimits()
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Check == "nats.limits" && f.Result == doctor.Fail && strings.Contains(f.Do, want)
		}) {
			t.Errorf("%s: doctor finds %v, want %s", limits, found, want)
		}
	}
}

// TestSizesOfStreams: streams are created with the configured sizes, refuse what is beyond
// them, and are found good when they are verified.
func TestSizesOfStreams(t *testing.T) {
	c := limitedServer(t, "max_bytes_required: true")
	c.NATSMaxBytes = config.MaxBytes{Outcomes: 9 << 20, Settlements: 10 << 20, Deadletters: 11 << 20, Operations: 12 << 20}
	link, err := created(t, c)
	must(t, err)
	for name, size := range map[string]int64{"OUTCOMES": 9 << 20, "SETTLEMENTS": 10 << 20, "DEADLETTERS": 11 << 20, "OPERATIONS": 12 << 20} {
		s, err := link.JS.Stream(t.Context(), name)
		must(t, err)
		if is := s.CachedInfo().Config; is.MaxBytes != size || is.Discard != jetstream.DiscardNew {
			t.Errorf("%s: max_bytes %d, discard %s", name, is.MaxBytes, is.Discard)
		}
	}
	if _, warnings, err := ledger.Open(t.Context(), link.JS, c.Ledger()); err != nil || len(warnings) > 0 {
		t.Errorf("the ledger: %v, %v", warnings, err)
	}
	if warnings, err := consumer.EnsureStreams(t.Context(), link.JS, c.Consumer()); err != nil || len(warnings) > 0 {
		t.Errorf("the streams: %v, %v", warnings, err)
	}
	c.NATSMaxBytes.Operations = 4096
	if err := c.NATSMaxBytes.Validate(); err == nil || !strings.Contains(err.Error(), "nats.max_bytes.operations") {
		t.Errorf("4096 bytes: %v", err)
	}
}
