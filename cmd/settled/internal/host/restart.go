package host

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"settled/consumer"
)

// ErrStoreFailed says that the embedded server has to be started again: it writes
// nothing to a stream any more once a write failed.
var ErrStoreFailed = errors.New("the embedded NATS server could not write its store")

// RestartAfter is after what time a service whose connection was closed starts again.
const RestartAfter = time.Second

// KeepRunning runs a service until it ends for another reason than that the connection to
// NATS was closed for good, or that the embedded server has to be started again. The client library does that for errors of the server
// that it doesn't know, and for commands that are too long. All that stands on the
// connection is made again with it, as by a restart of the process.
func KeepRunning(ctx context.Context, log zerolog.Logger, run func() error) error {
	for {
		err := run()
		if ctx.Err() != nil || !errors.Is(err, consumer.ErrClosed) && !errors.Is(err, ErrStoreFailed) {
			return err
		}
		log.Error().Err(err).Msg("starting again on a new connection to NATS")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(RestartAfter):
		}
	}
}
