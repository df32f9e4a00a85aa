package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/settlement"
)

// Results of a check.
const (
	OK      = "ok"
	Note    = "note"    // nothing is wrong, or it can't be determined
	Warn    = "warn"    // settled runs, and an operator should look into it
	Fail    = "fail"    // settled would not start, not settle, or endanger money
	Skipped = "skipped" // it needs something that an earlier check did not find
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found"`        // what was found
	Do     string `json:"do,omitempty"` // the line to change, or the command to run
}

// Doctor finds problems that would prevent settling. It changes nothing. It signs in at the
// node, under the application name of serve with "/doctor".
type Doctor struct {
	Cfg        *config.Config
	Session    settlement.SessionID // empty: none was named
	Cosign     bool                 // for `settled cosign` instead of `settled serve`
	ReportFunc func(Finding)
	checks     int
	failed     int

	signers  []clearnode.Signer
	keyFiles []string       // that signers come from
	NATS     *natsconn.Link // nil: NATS can't be reached
	missing  []string       // streams

	streamsRead bool                   // the user of nats.url may read the streams
	account     *jetstream.AccountInfo // nil: it can't be read
}

func (d *Doctor) report(check, result, do, format string, args ...any) {
	d.checks++
	if result == Fail {
		d.failed++
	}
	d.ReportFunc(Finding{Check: check, Result: result, Found: fmt.Sprintf(format, args...), Do: do})
}

func (d *Doctor) ok(check, format string, args ...any) { d.report(check, OK, "", format, args...) }

func (d *Doctor) note(check, do, format string, args ...any) {
	d.report(check, Note, do, format, args...)
}

func (d *Doctor) warn(check, do, format string, args ...any) {
	d.report(check, Warn, do, format, args...)
}

func (d *Doctor) fail(check, do, format string, args ...any) {
	d.report(check, Fail, do, format, args...)
}

func (d *Doctor) skip(check, why string) { d.report(check, Skipped, "", "%s", why) }

// Configuration reports the result of reading the configuration. It returns false if the
// configuration is invalid.
func (d *Doctor) Configuration(cfg *config.Config, warnings []string, err error) bool {
	if err != nil {
		d.fail("config", "see `settled config sample` for every key", "%s", err)
		return false
	}
	d.Cfg = cfg
	for _, w := range warnings {
		d.warn("config", "", "%s", w)
	}
	if len(warnings) == 0 {
		d.ok("config", "valid; scenarios: %s", strings.Join(cfg.Scenarios(), ", "))
	}
	return true
}

// Examine runs every check, local ones first.
func (d *Doctor) Examine(ctx context.Context) {
	d.checkSecretFiles()
	if d.Cfg.Embedded {
		d.checkStore()
	}
	d.checkRunningService(ctx)
	d.examineNATS(ctx)
	if d.NATS != nil {
		defer d.NATS.Close()
	}
	d.examineNode(ctx)
}

// Verdict returns an error if a check failed.
func (d *Doctor) Verdict() error {
	if d.failed > 0 {
		return fmt.Errorf("doctor: %d of %d checks failed", d.failed, d.checks)
	}
	return nil
}
