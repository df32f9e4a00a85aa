// Package operations keeps a record of what operators did: stops and resumes of all
// sending, and replays, discards and requeues of outcomes. EmergencyStop tells settlement
// from these records whether sending is stopped.
package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/internal/publish"
)

// Log is the stream of operations.
type Log struct {
	// Who is named as the author of new records; New sets user@host.
	Who string

	js             jetstream.JetStream
	cfg            consumer.Config
	stops, resumes *Reader
}

// New uses Prefix, Log and ForeignFunc of cfg.
func New(js jetstream.JetStream, cfg consumer.Config) *Log {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	l := &Log{Who: name + "@" + host, js: js, cfg: cfg}
	l.stops, l.resumes = l.NewReader(ActionStop), l.NewReader(ActionResume)
	return l
}

// Append stores a record, and sets its author and time. A record that was stored under
// the same id within the stream's duplicate window is not stored again.
func (l *Log) Append(ctx context.Context, r Record, id string, options ...jetstream.PublishOpt) (Record, error) {
	r.Who, r.At = l.Who, time.Now().UTC()
	data, err := json.Marshal(r)
	if err != nil {
		return r, fmt.Errorf("record: %w", err)
	}
	m := nats.NewMsg(consumer.OperationSubject(l.cfg.Prefix, r.Action))
	m.Header.Set("Content-Type", "application/json")
	m.Data = data
	stream := consumer.OperationsStream(l.cfg.Prefix)
	ack, err := publish.Once(ctx, l.js, stream, m, id, r.matches, options...)
	if err != nil {
		return r, fmt.Errorf("record in %s: %w", stream, err)
	}
	r.Sequence = ack.Sequence
	return r, nil
}

// Stopped returns the stop that is in force, or nil.
func (l *Log) Stopped(ctx context.Context) (*Record, error) {
	stop, resume, err := l.lastStop(ctx)
	if err != nil || resume != nil {
		return nil, err
	}
	return stop, nil
}

// lastStop returns the last stop and the resume that lifts it. Either may be nil: a stop
// is in force until a resume names it.
func (l *Log) lastStop(ctx context.Context) (stop, resume *Record, err error) {
	stops, _, err := l.stops.Records(ctx)
	if err != nil || len(stops) == 0 {
		return nil, nil, err
	}
	last := stops[len(stops)-1]
	resumes, _, err := l.resumes.Records(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range resumes {
		if r.Stop == last.Sequence && r.Sequence > last.Sequence {
			return &last, &r, nil
		}
	}
	return &last, nil, nil
}

// Stop records that all sending stops. The reason is required. Every replica learns of
// the stop within a moment; messages that are being sent at that moment are still sent.
func (l *Log) Stop(ctx context.Context, reason string) (Record, error) {
	if strings.TrimSpace(reason) == "" {
		return Record{}, errors.New("stop: give a reason, it is recorded")
	}
	r, err := l.Append(ctx, Record{Action: ActionStop, Reason: consumer.OneLine(reason, 4<<10)}, nats.NewInbox())
	if err != nil {
		return r, fmt.Errorf("stop: %w", err)
	}
	return r, nil
}

// Resume records that sending resumes, and returns the stop that it lifted. The reason
// is required. If no stop is in force, it records nothing and returns nil. If another
// stop is recorded at the same moment, nothing is lifted and Resume returns an error.
func (l *Log) Resume(ctx context.Context, reason string) (*Record, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, errors.New("resume: give a reason, it is recorded")
	}
	stop, err := l.Stopped(ctx)
	if err != nil || stop == nil {
		return nil, err
	}
	if err := l.lift(ctx, *stop, consumer.OneLine(reason, 4<<10)); err != nil {
		return nil, fmt.Errorf("resume: %w; if another stop was recorded at this moment, examine it and resume again", err)
	}
	return stop, nil
}

// lift records the resume of a stop, provided that it is still the last one.
func (l *Log) lift(ctx context.Context, stop Record, reason string) error {
	stops, last, err := l.stops.Records(ctx)
	if err != nil {
		return err
	}
	if len(stops) == 0 || stops[len(stops)-1].Sequence != stop.Sequence {
		return fmt.Errorf("operation %d is not the last stop", stop.Sequence)
	}
	unchanged := jetstream.WithExpectLastSequenceForSubject(last, consumer.OperationSubject(l.cfg.Prefix, ActionStop))
	_, err = l.Append(ctx, Record{Action: ActionResume, Reason: reason, Stop: stop.Sequence}, nats.NewInbox(), unchanged)
	return err
}
