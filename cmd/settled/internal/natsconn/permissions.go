package natsconn

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
)

// Need says what a missing permission prevents.
type Need int

// The needs, from the least.
const (
	Optional Need = iota // one feature of settled
	Required             // settling
	Watched              // sending: PermissionWatch holds it
)

// Permission is something that settled's user at NATS should be allowed to publish.
type Permission struct {
	Allow       string // what the server's configuration should allow
	Consequence string // of not having it
	Need        Need
	subject     string // one of these subjects; if it ends with probeToken, the last token is completed
}

// probeToken begins the last token of the subjects that are tried.
const probeToken = "rights-"

// Permissions returns what settled's user needs to publish, at the API of js.
func Permissions(js jetstream.JetStream, cfg *config.Config) []Permission {
	prefix, api := cfg.NATSPrefix, streamreader.APIPrefix(js)
	outcomes, letters, operations, settlements := consumer.OutcomesStream(prefix), consumer.DeadLettersStream(prefix), consumer.OperationsStream(prefix), ledger.StreamName(prefix)
	durable := outcomes + "." + cfg.ConsumerDurable
	all := []Permission{
		{ledger.Subject(prefix, "*", "*"), "the ledger can't be written", Watched, ledger.Subject(prefix, "closing", probeToken)},
		{consumer.DeadLetterSubject(prefix, "*"), "dead letters can't be stored", Watched, consumer.DeadLetterSubject(prefix, probeToken)},
		{consumer.OperationSubject(prefix, "*"), "a stop can't be recorded", Watched, consumer.OperationSubject(prefix, probeToken)},
		{"$JS.ACK." + durable + ".>", "outcomes can't be acknowledged, and are delivered again for ever", Watched, "$JS.ACK." + durable + "." + probeToken},
		{consumer.NextSubject(js, prefix, cfg.ConsumerDurable), "outcomes can't be fetched", Watched, ""},
		{consumer.OutcomesFilter(prefix), "an outcome that another client took can't be published again", Optional, consumer.OutcomeSubject(prefix, probeToken)},
		{prefix + "cosign.*", "co-signatures can't be requested", Optional, prefix + "cosign." + probeToken},
		{"_R_.>", "the micro service can't answer clients of other accounts", Optional, "_R_." + probeToken},
		{"$JS.ACK.*.*." + durable + ".>", "outcomes would be delivered again for ever if the server uses acknowledgement subjects with domain and account", Optional, "$JS.ACK.domain.account." + durable + "." + probeToken},
		{api + "CONSUMER.INFO." + durable, "the consumer can't be verified", Required, ""},
		{api + "STREAM.MSG.DELETE." + letters, "the dashboard can neither replay nor discard", Optional, ""},
		{api + "INFO", "the account's storage can't be watched", Optional, ""},
	}
	for _, read := range []struct{ stream, consequence string }{
		{settlements, "the ledger can't be read"}, {operations, "it can't be read whether sending is stopped"},
		{outcomes, "an outcome can't be read again"}, {letters, "the dashboard can't show dead letters"},
	} {
		all = append(all,
			Permission{api + "STREAM.INFO." + read.stream, "stream " + read.stream + " can't be verified", Required, ""},
			Permission{api + "STREAM.MSG.GET." + read.stream, read.consequence, Required, ""})
		if cfg.NATSManageStreams {
			all = append(all, Permission{api + "STREAM.CREATE." + read.stream, "stream " + read.stream + " can't be created", Optional, ""})
		}
	}
	if cfg.NATSManageStreams {
		all = append(all, Permission{api + "CONSUMER.CREATE." + durable + ".>", "the consumer can't be created", Optional, api + "CONSUMER.CREATE." + durable + "." + probeToken})
	}
	return all
}

// Subject returns a subject that the permission allows. It is another one each time, except
// if there is only one: the connection keeps only its last error.
func (p Permission) Subject() string {
	if p.subject == "" {
		return p.Allow
	}
	return p.subject + rand.Text()
}

// isAboutSubject reports whether an error of the connection denies a subject of the
// permission.
func (p Permission) isAboutSubject(err error) bool {
	start, _, _ := strings.Cut(strings.ReplaceAll(p.Allow, ">", "*"), "*")
	return strings.Contains(err.Error(), `Publish to "`+start)
}

// InvalidJSON is the payload of probes of the API, which rejects it as malformed.
const InvalidJSON = "{"

// CanPublish reports whether the connection's user may publish to a subject. It publishes
// a message that has no effect: no part of the server can parse it, and it expects to be
// stored in a stream whose name is invalid. The server reports that it denies a message
// before it answers the ping after it. The error is that of the connection.
func CanPublish(ctx context.Context, nc *nats.Conn, subject string) (bool, error) {
	m := nats.NewMsg(subject)
	m.Header.Set("Nats-Expected-Stream", "*settled rights*")
	m.Header.Set("Nats-Expected-Last-Sequence", strconv.Itoa(1<<53))
	m.Data, m.Reply = []byte(InvalidJSON), nc.NewInbox()
	if err := nc.PublishMsg(m); err != nil {
		return false, err
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return false, err
	}
	return PermissionError(nc, subject) == nil, nil
}

// PermissionError returns the connection's last error if the server denied that subject.
func PermissionError(nc *nats.Conn, subject string) error {
	last := nc.LastError()
	if errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), strconv.Quote(subject)) {
		return last
	}
	return nil
}
