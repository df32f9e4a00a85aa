package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/cosigner"
	"settled/settlement"
)

// checkCosignPermissions checks that the co-signer may receive co-signing requests for its
// keys, and may read single outcomes.
func (d *Doctor) checkCosignPermissions(ctx context.Context) {
	stream := d.Cfg.OutcomesStream()
	get := d.apiPrefix() + "STREAM.MSG.GET." + stream
	denied := 0
	report := func(line, subject string, err error) {
		denied++
		d.fail("nats.rights", fmt.Sprintf("%s: [%q] in the permissions of the co-signer's user (deploy/nats/cosign-accounts.conf)", line, subject), "the co-signer may not %s to %s: %s", line, subject, err)
	}
	for _, of := range d.addresses() {
		subject := cosigner.Subject(d.Cfg.NATSPrefix, of)
		if err := d.trySubscribe(subject); err != nil {
			report("subscribe", subject, err)
		}
	}
	allowed, err := d.canPublish(get)
	switch {
	case err != nil:
		d.fail("nats.rights", "", "%s", err)
		return
	case !allowed && d.NATS.Domain == "":
		d.fail("nats.domain", "set nats.domain: outcomes as in deploy/COSIGN.md, or the domain of your mirror", "outcomes can't be read: %s", d.NATS.LastError())
		return
	case !allowed:
		report("publish", get, d.NATS.LastError())
		d.skip("stream."+stream, "the co-signer has no permission to read it")
		return
	case denied == 0:
		d.ok("nats.rights", "the co-signer may receive requests and read single outcomes")
	}
	d.checkReadOutcome(ctx, stream, get)
}

// checkReadOutcome requests one outcome, which need not exist.
func (d *Doctor) checkReadOutcome(ctx context.Context, stream, get string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := d.NATS.RequestWithContext(ctx, get, []byte(`{"seq": 1}`))
	check := "stream." + stream
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		d.fail(check, "nats.domain: outcomes, with the export and import of deploy/nats/cosign-accounts.conf; or cosign.outcomes_stream: the name of your mirror", "nothing answers on %s", get)
	case err != nil:
		d.fail(check, "start the settling party's NATS server, or restore the leaf node's connection to it", "%s: %s", get, err)
	case strings.Contains(string(answer.Data), `"err_code":10059`):
		d.fail(check, "cosign.outcomes_stream: the stream that outcomes are read from; nats.prefix: the settling party's", "there is no such stream")
	default:
		d.ok(check, "single outcomes can be read")
	}
}

// checkCosignWeight checks whether one of our keys has a weight in a session.
func (d *Doctor) checkCosignWeight(s settlement.Session) {
	ours, _ := d.ownWeight(s)
	if ours == 0 {
		d.fail("session.quorum", "clearnode.key_files: the key of a participant that has a weight", "none of our keys has a weight in this session, so no signature is requested from them")
		return
	}
	d.ok("session.quorum", "our keys have a weight of %d, and the quorum is %d", ours, s.Quorum)
}
