package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jetStream is Stream on a real one.
type jetStream struct {
	js   jetstream.JetStream
	name string
	// stream reads by STREAM.MSG.GET, which only the leader answers: the client
	// goes by the setting AllowDirect as it was when Open verified it.
	stream jetstream.Stream
}

func (j jetStream) Publish(ctx context.Context, d Draft) (Ack, error) {
	m := &nats.Msg{Subject: d.Subject, Data: d.Payload, Header: nats.Header{"Content-Type": {ContentType}}}
	opts := []jetstream.PublishOpt{
		jetstream.WithExpectStream(j.name),
		jetstream.WithRetryAttempts(0), // the ledger tries again, knowing what to look at first
	}
	if d.Filter != "" {
		opts = append(opts, jetstream.WithExpectLastSequenceForSubject(d.Expect, d.Filter))
	}
	if d.ID != "" {
		opts = append(opts, jetstream.WithMsgID(d.ID))
	}
	ack, err := j.js.PublishMsg(ctx, m, opts...)
	if err != nil {
		return Ack{}, fmt.Errorf("publish %s: %w", d.Subject, err)
	}
	return Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

func (j jetStream) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	var m *jetstream.RawStreamMsg
	var err error
	if from == 0 {
		m, err = j.stream.GetLastMsgForSubject(ctx, filter)
	} else {
		m, err = j.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, ErrNoMessage
	}
	if err != nil {
		return Message{}, fmt.Errorf("get %s: %w", filter, err)
	}
	return Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}, nil
}

func (j jetStream) Gaps(ctx context.Context) (bool, error) {
	s, err := j.js.Stream(ctx, j.name)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", j.name, err)
	}
	state := s.CachedInfo().State
	return state.NumDeleted > 0 || state.Msgs < state.LastSeq, nil
}
