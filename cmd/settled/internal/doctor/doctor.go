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

// What a check can come to.
const (
	OK      = "ok"
	Note    = "note"    // nothing is wrong, or it can't be seen from here
	Warn    = "warn"    // settled runs, and somebody should look
	Fail    = "fail"    // settled would not start, not settle, or endanger money
	Skipped = "skipped" // something before it failed
)

// Finding is what one check came to.
type Finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found"`        // what is there
	Do     string `json:"do,omitempty"` // the line to change, or the command to run
}

// Doctor looks for what would keep settled from settling. It changes nothing.
type Doctor struct {
	Cfg     *config.Config
	Session settlement.SessionID // empty: none was named
	Cosign  bool                 // for `settled cosign` instead of `settled serve`
	Say     func(Finding)
	checks  int
	failed  int

	signers  []clearnode.Signer
	keyFiles []string       // that signers come from
	Nats     *natsconn.Link // nil while NATS can't be reached
	missing  []string       // streams

	streamsRead bool                   // the user of nats.url may read the streams
	account     *jetstream.AccountInfo // nil where it can't be read
}

func (d *Doctor) tell(check, result, do, format string, args ...any) {
	d.checks++
	if result == Fail {
		d.failed++
	}
	d.Say(Finding{Check: check, Result: result, Found: fmt.Sprintf(format, args...), Do: do})
}

func (d *Doctor) ok(check, format string, args ...any) { d.tell(check, OK, "", format, args...) }

func (d *Doctor) note(check, do, format string, args ...any) {
	d.tell(check, Note, do, format, args...)
}

func (d *Doctor) warn(check, do, format string, args ...any) {
	d.tell(check, Warn, do, format, args...)
}

func (d *Doctor) fail(check, do, format string, args ...any) {
	d.tell(check, Fail, do, format, args...)
}

func (d *Doctor) skip(check, why string) { d.tell(check, Skipped, "", "%s", why) }

// Configuration takes what was read of it. Without one there is nothing to examine.
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
		d.ok("config", "it reads; scenarios: %s", strings.Join(cfg.Scenarios(), ", "))
	}
	return true
}

// Examine makes every check, the cheap and near ones first.
func (d *Doctor) Examine(ctx context.Context) {
	d.secrets()
	if d.Cfg.Embedded {
		d.store()
	}
	d.serving(ctx)
	d.examineNATS(ctx)
	if d.Nats != nil {
		defer d.Nats.Close()
	}
	d.examineNode(ctx)
}

// Verdict is an error where a check failed.
func (d *Doctor) Verdict() error {
	if d.failed > 0 {
		return fmt.Errorf("doctor: %d of %d checks failed", d.failed, d.checks)
	}
	return nil
}
