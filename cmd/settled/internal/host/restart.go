package host

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/consumer"
)

// ErrStoreFailed says that the embedded server must be restarted: after a failed write it
// writes nothing more to a stream.
var ErrStoreFailed = errors.New("the embedded NATS server could not write its store")

// RestartDelay is how long a service waits before it restarts on a new connection.
const RestartDelay = time.Second

// KeepRunning runs a service, and restarts it if the connection to NATS was closed for
// good or the embedded server must be restarted. The client library closes a connection
// for good after unknown errors of the server and commands that are too long.
func KeepRunning(ctx context.Context, log zerolog.Logger, run func() error) error {
	for {
		err := run()
		if ctx.Err() != nil || !errors.Is(err, consumer.ErrClosed) && !errors.Is(err, ErrStoreFailed) {
			return err
		}
		log.Error().Err(err).Msg("starting again on a new connection to NATS")
		if !background.Sleep(ctx, RestartDelay) {
			return nil
		}
	}
}
