package natsconn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/ledger"
)

// What deploy/nats expects of every client besides user and password: an inbox
// prefix of the user's own, and the domain under which the accounts without
// JetStream import the API of settled's account.
const (
	LedgerDomain = "ledger"
)

// apiWait bounds the search for JetStream's API. It is one round trip.
const apiWait = 2 * time.Second

// InboxAdvice is what to do where NATS refuses the subscription for answers; empty
// where err says something else.
func InboxAdvice(err error) string {
	if err == nil || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Subscription to "`+config.DefaultInboxPrefix) {
		return ""
	}
	return "set nats.inbox_prefix to the inbox prefix that the server's configuration permits this user: _INBOX where it permits _INBOX.> only; deploy/nats permits _INBOX_<user>.>, which is the default for a user named in nats.url"
}

// FindDomain is the JetStream domain to use where nats.domain is not set: none where
// the user's account has JetStream, and ledgerDomain where it has not, or where the
// user may not ask and that domain answers.
func FindDomain(c *config.Config, nc *nats.Conn) (string, error) {
	answer, err := ask(nc, "$JS.API.INFO")
	if advice := InboxAdvice(err); advice != "" {
		return "", fmt.Errorf("answers can't be received: %w: %s", err, advice)
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		if _, err = ask(nc, "$JS."+LedgerDomain+".API.STREAM.INFO."+ledger.StreamName(c.NATSPrefix)); err == nil {
			return LedgerDomain, nil
		}
		return "", nil
	case err != nil: // no answer in time, or no JetStream: the command itself says so
		return "", nil
	}
	var reply struct {
		Error *jetstream.APIError `json:"error"`
	}
	if json.Unmarshal(answer.Data, &reply) == nil && reply.Error != nil && reply.Error.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabledForAccount {
		return LedgerDomain, nil
	}
	return "", nil
}

// ask sends an empty request and returns its answer, or what NATS denies as soon as
// that is known.
func ask(nc *nats.Conn, subject string) (*nats.Msg, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, err
	}
	if err := nc.FlushTimeout(apiWait); err != nil {
		return nil, err
	}
	if last := nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), `Publish to "`+subject+`"`) {
		if _, err := sub.NextMsg(time.Nanosecond); errors.Is(err, nats.ErrPermissionViolation) {
			return nil, err // the subscription is denied as well
		}
		return nil, last
	}
	return sub.NextMsg(apiWait)
}

// OperatorFile is the file in the embedded server's store directory with the URL by
// which commands on this machine reach it as operator. Its mode is 0600.
const OperatorFile = "operator.url"

// AsOperator is c with the operator's URL of an embedded server in place of nats.url,
// where that names this machine and no user, and a file of that server's that only we
// can read is there: in embedded.store_dir, or in that of a running demo, where it must be
// our own, since anybody may create files in the directory for temporary ones.
func AsOperator(c *config.Config) *config.Config {
	want := config.ParseServerURL(c.NATSURL)
	if want == nil || want.User != nil || strings.Contains(c.NATSURL, ",") || c.NATSCredentialsFile != "" || c.NATSNKeyFile != "" || !Loopback(want.Host) {
		return c
	}
	demos, _ := filepath.Glob(filepath.Join(os.TempDir(), DemoDir+"*", DemoStore, OperatorFile))
	for i, file := range append([]string{filepath.Join(c.EmbeddedStoreDir, OperatorFile)}, demos...) {
		read := clearnode.ReadOwnSecretFile
		if i == 0 {
			read = clearnode.ReadSecretFile
		}
		text, err := read("operator's URL", file)
		if err != nil {
			continue
		}
		if found := config.ParseServerURL(string(text)); found != nil && found.Port() == want.Port() && Loopback(found.Host) {
			operator := *c
			want.User = found.User
			operator.NATSURL = want.String()
			return &operator
		}
	}
	return c
}
