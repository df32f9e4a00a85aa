// Package publish stores messages in a stream at most once per id.
package publish

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
)

// Once publishes m under a message id and verifies that the stream stored it. It does not
// ask for the stream in a header, because that would be stored, and would hinder anybody
// who publishes a dead letter again by hand.
//
// If the server already has a message with that id, its answer proves nothing: anybody who
// may write to the stream can have used the id. The stored message counts only if same
// accepts it (nil stands for a message that was removed since); otherwise m is published
// under an id of its own.
func Once(ctx context.Context, js jetstream.JetStream, stream string, m *nats.Msg, id string, same func(*jetstream.RawStreamMsg) bool, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	for try := 0; ; try++ {
		ack, err := js.PublishMsg(ctx, m, append(slices.Clone(options), jetstream.WithMsgID(id))...)
		if err != nil {
			return nil, err
		}
		if ack.Stream != stream {
			return nil, fmt.Errorf("%s belongs to stream %s, not %s: correct the streams' subjects", m.Subject, ack.Stream, stream)
		}
		if !ack.Duplicate {
			return ack, nil
		}
		stored, err := streamreader.New(js, stream).Get(ctx, ack.Sequence)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, fmt.Errorf("the server has a message with that id already, and it can't be read: %w", err)
		}
		switch {
		case same(stored):
			return ack, nil
		case try == 0: // the same id for every attempt to store this message
			sum := sha256.Sum256(m.Data)
			id += "/" + hex.EncodeToString(sum[:])
		default:
			id += "/" + rand.Text()
		}
	}
}
