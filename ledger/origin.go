package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Origin tells one stream from the next that has its name.
type Origin struct {
	Created time.Time     // by the servers' clock: no two streams of one name share it
	Age     time.Duration // when it was asked for, by the same clock
	Dangers []string      // settings that endanger money, as Open words them
	Weak    []string      // settings that protect less than configured

	Counted bool   // Last and Removed are known
	Last    uint64 // sequence of the last message ever stored
	Removed uint64 // how many of the messages up to there are gone
}

// Origins is a Stream that can be replaced, changed and set back, and says so.
type Origins interface {
	// Origin asks the leader.
	Origin(ctx context.Context) (Origin, error)
	// UsedBefore reports whether work was done before that instant which a ledger
	// that began then doesn't know of: outcomes were stored, or dead letters.
	UsedBefore(ctx context.Context, begun time.Time) (bool, error)
}

// errMissing says that the ledger's stream is not there.
var errMissing = errors.New("the stream is missing")

// servers is Origins of a JetStream. It takes a new handle of the stream for each
// look: reads go by the settings that the ledger's own handle had when Open
// verified them.
type servers struct {
	js  jetstream.JetStream
	cfg Config
}

func (s servers) Origin(ctx context.Context) (Origin, error) {
	stream, err := s.js.Stream(ctx, StreamName(s.cfg.Prefix))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Origin{}, errMissing
	}
	if err != nil {
		return Origin{}, err
	}
	info := stream.CachedInfo()
	want := StreamConfig(s.cfg)
	dangers, _ := inspect(info.Config, want)
	return Origin{
		Created: info.Created, Age: info.TimeStamp.Sub(info.Created), Dangers: dangers, Weak: weaknesses(info.Config, want),
		Counted: true, Last: info.State.LastSeq, Removed: info.State.LastSeq - min(info.State.Msgs, info.State.LastSeq),
	}, nil
}

func (s servers) UsedBefore(ctx context.Context, begun time.Time) (bool, error) {
	for _, name := range []string{"OUTCOMES", "DEADLETTERS"} {
		name = streamName(s.cfg.Prefix, name)
		stream, err := s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("whether %s is older: %w", name, err)
		}
		if heldBefore(stream.CachedInfo(), begun) {
			return true, nil
		}
	}
	return false, nil
}

// heldBefore reports whether a stream held messages before that instant; also
// where it may have, for its first ones are gone.
func heldBefore(info *jetstream.StreamInfo, begun time.Time) bool {
	switch {
	case info.State.LastSeq == 0 || !info.Created.Before(begun):
		return false
	case info.State.FirstSeq == 1 && info.State.Msgs > 0:
		return info.State.FirstTime.Before(begun)
	default:
		return true
	}
}
