package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/settlement"
)

// newestEntries is how many of the ledger's newest messages doctor reads.
const newestEntries = 2000

// checkForeign finds messages that neither settled nor an operator stored.
func (d *Doctor) checkForeign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := d.Cfg.Consumer()
	found := map[string][]error{}
	cfg.ForeignFunc = func(f consumer.Foreign) { found[f.Stream] = append(found[f.Stream], f) }
	name := ledger.StreamName(cfg.Prefix)
	for _, c := range []struct {
		stream, messages string
		read             func() error
	}{
		{name, fmt.Sprintf("the newest %d messages", newestEntries), func() error {
			return d.listForeignEntries(ctx, func(f ledger.Foreign) { found[name] = append(found[name], f) })
		}},
		{consumer.DeadLettersStream(cfg.Prefix), "all dead letters", func() error {
			return deadletter.New(d.NATS.JS, cfg).Each(ctx, deadletter.Filter{}, func(deadletter.Letter) error { return nil })
		}},
		{consumer.OperationsStream(cfg.Prefix), "the stops and resumes", func() error {
			_, err := operations.New(d.NATS.JS, cfg).Stopped(ctx)
			return err
		}},
	} {
		stream, check := c.stream, "foreign."+c.stream
		if slices.Contains(d.missing, stream) {
			d.skip(check, "the stream is missing")
			continue
		}
		err := c.read()
		switch n := len(found[stream]); {
		case n > 0:
			d.warn(check, "find out who can write there: see SettledForeignMessages in deploy/RUNBOOK.md", "%d foreign messages; the first: %s", n, found[stream][0])
		case err != nil:
			d.warn(check, "", "could not be read: %s", err)
		default:
			d.ok(check, "%s: no foreign message", c.messages)
		}
	}
}

// listForeignEntries reads the newest messages of the ledger, and checks whether OUTCOMES has
// the messages that they name.
func (d *Doctor) listForeignEntries(ctx context.Context, found func(ledger.Foreign)) error {
	digests := policyDigests{cfg: d.Cfg, ours: map[settlement.Scenario]uint64{}, others: map[settlement.Scenario]settlement.Entry{}}
	problem, err := audit.CheckNewest(ctx, d.NATS.JS, d.Cfg.NATSPrefix, newestEntries, found, digests.observe)
	if err == nil {
		digests.report(d)
	}
	if problem != "" {
		d.warn("stream."+consumer.OutcomesStream(d.Cfg.NATSPrefix), "see Backup and restore in deploy/RUNBOOK.md", "%s", problem)
	}
	return err
}
