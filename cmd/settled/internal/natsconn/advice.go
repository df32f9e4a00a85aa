package natsconn

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// PermissionErrors keeps the first permission that NATS denied to a command. The server
// reports it separately from the call, which itself only times out.
type PermissionErrors struct {
	mu       sync.Mutex
	first    error
	imported bool // the account has no JetStream: the API is expected under LedgerDomain
}

// HandleError is a nats.ErrHandler.
func (r *PermissionErrors) HandleError(_ *nats.Conn, _ *nats.Subscription, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil && errors.Is(err, nats.ErrPermissionViolation) {
		r.first = err
	}
}

// SetDomain records the JetStream domain that was found for a command.
func (r *PermissionErrors) SetDomain(domain string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.imported = domain == LedgerDomain
}

// isNotImported reports whether err says that the account of a command's user has
// neither JetStream nor the import that the command needs.
func (r *PermissionErrors) isNotImported(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.imported && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled))
}

func (r *PermissionErrors) firstError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first
}

// Explain adds the cause to an error of a command if NATS is the cause.
func (r *PermissionErrors) Explain(err error) error {
	if err == nil {
		return err
	}
	refused := r.firstError()
	switch advice := InboxAdvice(refused); {
	case advice != "":
		return fmt.Errorf("%w\nNATS refuses the subscription for answers: %w: %s", err, refused, advice)
	case refused != nil:
		return fmt.Errorf("%w\nNATS denies the user of nats.url a permission: %w; deploy/nats/roles.conf says what each user may do", err, refused)
	case r.isNotImported(err):
		return fmt.Errorf("%w\nThe account of the user of nats.url has no JetStream, and $JS.%s.API does not answer. Use a user with this permission (deploy/nats/roles.conf) or set nats.domain. If the user has it, run `settled doctor` with the service's --config", err, LedgerDomain)
	}
	if IsUnavailable(err) {
		return fmt.Errorf("%w\nNATS or the node did not answer: `settled doctor`, with the service's --config, says what is wrong", err)
	}
	return err
}

// ConnectAdvice returns what to do if no connection could be made.
func ConnectAdvice(err error) string {
	if isAuthError(err) {
		return "the server runs, but doesn't know this user, password or key: correct nats.url, nats.credentials_file or nats.nkey_file"
	}
	// While it connects, the client library returns the server's text, not its own error.
	switch text := strings.ToLower(err.Error()); {
	case strings.Contains(text, "maximum connections exceeded"):
		return "the server runs, but has as many connections as its max_connections permits: close some, or raise it"
	case strings.Contains(text, "maximum account active connections exceeded"):
		return "the server runs, but the account has as many connections as its limits permit: close some, or raise max_connections of the account"
	}
	if advice := HandshakeAdvice(err); advice != "" {
		return advice
	}
	return "is it running, and is nats.url right?"
}

// HandshakeAdvice returns what to do if client and server may disagree about
// nats.tls.first, or the server closed the connection at once; empty for other errors.
func HandshakeAdvice(err error) string {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || strings.Contains(strings.ToLower(err.Error()), "connection reset"):
		return "the server closed the connection: it may have reached max_connections, or it requires nats.tls.first: true (handshake_first)"
	case strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return "the server does not begin with TLS: set nats.tls.first: false, or handshake_first: true at the server"
	}
	return ""
}

// Errors of the JetStream API by which an account's limits refuse a stream or a consumer.
const (
	noResources      jetstream.ErrorCode = 10023
	tooManyConsumers jetstream.ErrorCode = 10026
	TooManyStreams   jetstream.ErrorCode = 10027
	storageUsedUp    jetstream.ErrorCode = 10047
	maxBytesRequired jetstream.ErrorCode = 10113
	noSuchTier       jetstream.ErrorCode = 10120
	streamTooLarge   jetstream.ErrorCode = 10122
)

const sizeKeys = "nats.max_bytes.outcomes, nats.max_bytes.settlements, nats.max_bytes.deadletters and nats.max_bytes.operations"

// LimitAdvice returns what to change if a limit of the JetStream account is the cause;
// else it is empty.
func LimitAdvice(err error) string {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return ""
	}
	switch api.ErrorCode {
	case maxBytesRequired:
		return "the account requires a maximum size for each stream: set " + sizeKeys + ", in bytes"
	case TooManyStreams:
		return "settled needs four streams: raise max_streams in the account's JetStream limits (nsc edit account --js-streams), or delete streams that nobody uses"
	case tooManyConsumers:
		return "settled needs at least 1 consumer on the stream of outcomes: raise max_consumers in the account's JetStream limits (nsc edit account --js-consumer), or delete consumers that nobody uses"
	case storageUsedUp, noResources:
		return "the account's storage is used up or reserved: raise max_store in its JetStream limits, or lower " + sizeKeys
	case streamTooLarge:
		return "the account allows no stream of that size (max_stream_bytes): lower " + sizeKeys
	case noSuchTier:
		return "the account has no JetStream limits for streams with this number of replicas: set nats.replicas to one that it has"
	}
	return ""
}

// WithLimitAdvice adds LimitAdvice to an error.
func WithLimitAdvice(err error) error {
	if advice := LimitAdvice(err); advice != "" {
		return fmt.Errorf("%w: %s", err, advice)
	}
	return err
}
