package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/ledger"
)

// What deploy/nats expects of every client besides user and password: an inbox
// prefix of the user's own, and the domain under which the accounts without
// JetStream import the API of settled's account.
const (
	inboxPrefix  = "_INBOX"
	ledgerDomain = "ledger"
)

// apiWait bounds the search for JetStream's API. It is one round trip.
const apiWait = 2 * time.Second

// plainToken is a user name that can be part of a subject.
var plainToken = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// inbox is the prefix of the subjects that answers are received on:
// nats.inbox_prefix, or _INBOX_<user> for the user of nats.url.
func (c *config) inbox() string {
	if c.natsInbox != "" {
		return c.natsInbox
	}
	if user := userOf(c.natsURL); plainToken.MatchString(user) {
		return inboxPrefix + "_" + user
	}
	return inboxPrefix
}

// checkInbox refuses a prefix that is not the beginning of a subject.
func (c *config) checkInbox() error {
	for token := range strings.SplitSeq(c.natsInbox, ".") {
		if c.natsInbox != "" && !plainToken.MatchString(token) {
			return fmt.Errorf("nats.inbox_prefix: %q: want letters, digits, _ and -, such as _INBOX_operator", c.natsInbox)
		}
	}
	return nil
}

// userOf is the user name that a server's URL, or the first of several that has one,
// holds beside a password; empty where there is none.
func userOf(urls string) string {
	for part := range strings.SplitSeq(urls, ",") {
		if u := serverURL(part); u != nil && u.User != nil {
			if _, given := u.User.Password(); given {
				return u.User.Username()
			}
		}
	}
	return ""
}

// serverURL parses a server's address as the client library does; nil where it can't.
func serverURL(text string) *url.URL {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(nats.DefaultPort))
	}
	return u
}

// inboxAdvice is what to do where NATS refuses the subscription for answers; empty
// where err says something else.
func inboxAdvice(err error) string {
	if err == nil || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Subscription to "`+inboxPrefix) {
		return ""
	}
	return "set nats.inbox_prefix to the inbox prefix that the server's configuration permits this user: _INBOX where it permits _INBOX.> only; deploy/nats permits _INBOX_<user>.>, which is the default for a user named in nats.url"
}

// findDomain is the JetStream domain to use where nats.domain is not set: none where
// the user's account has JetStream, and ledgerDomain where it has not, or where the
// user may not ask and that domain answers.
func (c *config) findDomain(nc *nats.Conn) (string, error) {
	answer, err := ask(nc, "$JS.API.INFO")
	if advice := inboxAdvice(err); advice != "" {
		return "", fmt.Errorf("answers can't be received: %w: %s", err, advice)
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		if _, err = ask(nc, "$JS."+ledgerDomain+".API.STREAM.INFO."+ledger.StreamName(c.natsPrefix)); err == nil {
			return ledgerDomain, nil
		}
		return "", nil
	case err != nil: // no answer in time, or no JetStream: the command itself says so
		return "", nil
	}
	var reply struct {
		Error *jetstream.APIError `json:"error"`
	}
	if json.Unmarshal(answer.Data, &reply) == nil && reply.Error != nil && reply.Error.ErrorCode == jetstream.JSErrCodeJetStreamNotEnabledForAccount {
		return ledgerDomain, nil
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

// operatorFile is the file in the embedded server's store directory with the URL by
// which commands on this machine reach it as operator. Its mode is 0600.
const operatorFile = "operator.url"

// asOperator is c with the operator's URL of an embedded server in place of nats.url,
// where that names this machine and no user, and a file of that server's that only we
// can read is there: in embedded.store_dir, or in that of a running demo, where it must be
// our own, since anybody may create files in the directory for temporary ones.
func (c *config) asOperator() *config {
	want := serverURL(c.natsURL)
	if want == nil || want.User != nil || strings.Contains(c.natsURL, ",") || c.natsCredentials != "" || c.natsNKey != "" || !loopback(want.Host) {
		return c
	}
	demos, _ := filepath.Glob(filepath.Join(os.TempDir(), demoDir+"*", demoStore, operatorFile))
	for i, file := range append([]string{filepath.Join(c.embeddedStoreDir, operatorFile)}, demos...) {
		read := clearnode.ReadOwnSecretFile
		if i == 0 {
			read = clearnode.ReadSecretFile
		}
		text, err := read("operator's URL", file)
		if err != nil {
			continue
		}
		if found := serverURL(string(text)); found != nil && found.Port() == want.Port() && loopback(found.Host) {
			operator := *c
			want.User = found.User
			operator.natsURL = want.String()
			return &operator
		}
	}
	return c
}
