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

// LedgerDomain is the domain under which the accounts of deploy/nats that have no JetStream
// import the API of settled's account.
const LedgerDomain = "ledger"

// apiTimeout bounds one round trip of the search for JetStream's API.
const apiTimeout = 2 * time.Second

// InboxAdvice returns what to do if NATS denied the subscription for answers; empty if err
// is another error.
func InboxAdvice(err error) string {
	if err == nil || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Subscription to "`+config.DefaultInboxPrefix) {
		return ""
	}
	return "set nats.inbox_prefix to the inbox prefix that the server's configuration permits this user: _INBOX where it permits _INBOX.> only; deploy/nats permits _INBOX_<user>.>, which is the default for a user named in nats.url"
}

// FindDomain returns the JetStream domain to use if nats.domain is not set: none if the
// user's account has JetStream; LedgerDomain if it has none, or if the user may not ask and
// that domain answers.
func FindDomain(c *config.Config, nc *nats.Conn) (string, error) {
	answer, err := request(nc, "$JS.API.INFO")
	if advice := InboxAdvice(err); advice != "" {
		return "", fmt.Errorf("answers can't be received: %w: %s", err, advice)
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		if _, err = request(nc, "$JS."+LedgerDomain+".API.STREAM.INFO."+ledger.StreamName(c.NATSPrefix)); err == nil {
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

// request sends an empty request and returns its answer. If NATS denies it, the error comes at
// once.
func request(nc *nats.Conn, subject string) (*nats.Msg, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, err
	}
	if err := nc.FlushTimeout(apiTimeout); err != nil {
		return nil, err
	}
	if last := nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), `Publish to "`+subject+`"`) {
		if _, err := sub.NextMsg(time.Nanosecond); errors.Is(err, nats.ErrPermissionViolation) {
			return nil, err // the subscription is denied as well
		}
		return nil, last
	}
	return sub.NextMsg(apiTimeout)
}

// OperatorFile is the file in the embedded server's store directory with the URL by
// which commands on this machine reach it as operator. Its mode is 0600.
const OperatorFile = "operator.url"

// AsOperator returns c with the operator's URL of an embedded server in place of nats.url,
// if that names this machine and no user, and there is an operator file that only this user
// can read: in embedded.store_dir, or in that of a running demo. The latter must belong to
// this user, since anybody may create files in the temporary directory.
func AsOperator(c *config.Config) *config.Config {
	want := config.ParseServerURL(c.NATSURL)
	if want == nil || want.User != nil || strings.Contains(c.NATSURL, ",") || c.NATSCredentialsFile != "" || c.NATSNKeyFile != "" || !IsLoopback(want.Host) {
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
		if found := config.ParseServerURL(string(text)); found != nil && found.Port() == want.Port() && IsLoopback(found.Host) {
			operator := *c
			want.User = found.User
			operator.NATSURL = want.String()
			return &operator
		}
	}
	return c
}
