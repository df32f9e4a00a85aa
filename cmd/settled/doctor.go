package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/settlement"
)

// What a check can come to.
const (
	checkOK      = "ok"
	checkNote    = "note"    // nothing is wrong, or it can't be seen from here
	checkWarn    = "warn"    // settled runs, and somebody should look
	checkFail    = "fail"    // settled would not start, not settle, or endanger money
	checkSkipped = "skipped" // something before it failed
)

// finding is what one check came to.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found"`        // what is there
	Do     string `json:"do,omitempty"` // the line to change, or the command to run
}

// doctor looks for what would keep settled from settling. It changes nothing.
type doctor struct {
	cfg     *config
	session settlement.SessionID // empty: none was named
	cosign  bool                 // for `settled cosign` instead of `settled serve`
	say     func(finding)
	checks  int
	failed  int

	signers  []clearnode.Signer
	keyFiles []string  // that signers come from
	nats     *natsLink // nil while NATS can't be reached
	missing  []string  // streams

	streamsRead bool                   // the user of nats.url may read the streams
	account     *jetstream.AccountInfo // nil where it can't be read
}

func (d *doctor) tell(check, result, do, format string, args ...any) {
	d.checks++
	if result == checkFail {
		d.failed++
	}
	d.say(finding{Check: check, Result: result, Found: fmt.Sprintf(format, args...), Do: do})
}

func (d *doctor) ok(check, format string, args ...any) { d.tell(check, checkOK, "", format, args...) }

func (d *doctor) note(check, do, format string, args ...any) {
	d.tell(check, checkNote, do, format, args...)
}

func (d *doctor) warn(check, do, format string, args ...any) {
	d.tell(check, checkWarn, do, format, args...)
}

func (d *doctor) fail(check, do, format string, args ...any) {
	d.tell(check, checkFail, do, format, args...)
}

func (d *doctor) skip(check, why string) { d.tell(check, checkSkipped, "", "%s", why) }

func (p *program) doctorCommand() *cobra.Command {
	var session string
	var embedded, cosign bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "doctor", Short: "Find out what would keep settled from settling, and what to change",
		Long: "Checks the configuration, the keys, NATS with its streams and permissions, and the ClearNode, and says of\neach what is wrong and the line to change. Exits 1 where a check failed. It changes nothing, closes nothing,\nand may run beside `settled serve`. It signs in at the node as serve does. With --cosign it checks what\n`settled cosign` needs instead.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{say: p.sayFinding, cosign: cosign}
			if session != "" {
				id, err := settlement.ParseSessionID(session)
				if err != nil {
					return misuse{fmt.Errorf("--session: %w", err)}
				}
				d.session = id
			}
			if timeout <= 0 {
				return misuse{errors.New("--timeout: want a time above 0, such as 30s")}
			}
			if embedded && cosign {
				return misuse{errors.New("--embedded and --cosign: a co-signer has no embedded server: give one of them")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if d.configuration(p, cmd) {
				d.cfg.embedded = (d.cfg.embedded || embedded) && !cosign
				d.examine(ctx)
			}
			if d.failed > 0 {
				return fmt.Errorf("doctor: %d of %d checks failed", d.failed, d.checks)
			}
			return nil
		},
	}
	c.Flags().StringVar(&session, "session", "", "an app session: can our keys close it?")
	c.Flags().BoolVar(&embedded, "embedded", false, "check for `settled serve --embedded` (embedded.enabled)")
	c.Flags().BoolVar(&cosign, "cosign", false, "check for `settled cosign`: its keys, requests and outcomes at NATS, and the node")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long all checks may take")
	return c
}

// sayFinding prints one finding as soon as it is there.
func (p *program) sayFinding(f finding) {
	if p.json() {
		_ = p.printJSON(f)
		return
	}
	text := fmt.Sprintf("%-7s  %-24s  %s", f.Result, f.Check, printable(f.Found))
	if f.Do != "" {
		text += "\n" + strings.Repeat(" ", 35) + "> " + printable(f.Do)
	}
	_ = p.printLine(text)
}

// configuration reads it. Without one there is nothing to examine.
func (d *doctor) configuration(p *program, cmd *cobra.Command) bool {
	cfg, warnings, err := p.load(cmd)
	if err != nil {
		d.fail("config", "see `settled config sample` for every key", "%s", err)
		return false
	}
	d.cfg = &cfg
	for _, w := range warnings {
		d.warn("config", "", "%s", w)
	}
	if len(warnings) == 0 {
		d.ok("config", "it reads; scenarios: %s", strings.Join(cfg.scenarios(), ", "))
	}
	return true
}

// examine makes every check, the cheap and near ones first.
func (d *doctor) examine(ctx context.Context) {
	d.secrets()
	if d.cfg.embedded {
		d.store()
	}
	d.serving(ctx)
	d.examineNATS(ctx)
	if d.nats != nil {
		defer d.nats.Close()
	}
	d.examineNode(ctx)
}
