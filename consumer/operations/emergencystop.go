package operations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/internal/refresh"
	"settled/settlement"
)

const (
	refreshPeriod = time.Second            // between two reads of the stream
	refreshTime   = 2 * time.Second        // for one of them
	refreshTrust  = 5 * time.Second        // how long the result of a read is relied on
	storingTime   = 500 * time.Millisecond // how long a stop may take from its publication to being stored
)

// EmergencyStop is settlement.EmergencyStop on the stream of operations. It reads the
// stream from its leader once a second, and at once when a stop or a resume is published.
// An unknown state counts as stopped: before the first read, after a reconnection, and
// when the stream could not be read for 5 seconds.
type EmergencyStop struct {
	log    *Log
	reload refresh.Loop

	mu         sync.Mutex
	readAt     time.Time // when the last successful read began; zero: the state is unknown
	validFrom  time.Time // a read that began earlier may have missed a stop
	readErr    error     // of the last read
	active     *Record   // the stop in force, as read from the stream
	unrecorded *Record   // a stop by this replica that has not been seen in the stream yet
}

var _ settlement.EmergencyStop = (*EmergencyStop)(nil)

// NewEmergencyStop uses Prefix, Log and ForeignFunc of cfg. The state is unknown until
// Refresh or Run reads the stream.
func NewEmergencyStop(js jetstream.JetStream, cfg consumer.Config) *EmergencyStop {
	l := New(js, cfg)
	l.Who = "settled, " + l.Who
	return &EmergencyStop{log: l, reload: refresh.New()}
}

// Run keeps the state up to date until ctx ends.
func (s *EmergencyStop) Run(ctx context.Context) {
	for action, published := range map[string]func(){ActionStop: func() { s.forgetFor(storingTime) }, ActionResume: s.reload.Soon} {
		defer refresh.Subscribe(s.log.js.Conn(), consumer.OperationSubject(s.log.cfg.Prefix, action), published, func(err error) {
			s.log.cfg.Log.Warn().Err(err).Msg("no subscription to stops and resumes: the stream of operations is read once a second instead")
		})()
	}
	s.reload.Run(ctx, 0, func(ctx context.Context) time.Duration {
		s.Refresh(ctx)
		return refreshPeriod
	})
}

// Forget makes the state unknown until the next read, which Run starts at once. Call it
// whenever the connection to NATS was interrupted.
func (s *EmergencyStop) Forget() { s.forgetFor(0) }

// forgetFor also ignores reads that begin before the duration has passed.
func (s *EmergencyStop) forgetFor(d time.Duration) {
	s.mu.Lock()
	s.readAt, s.validFrom = time.Time{}, time.Now().Add(d)
	s.mu.Unlock()
	s.reload.Soon()
}

// Stopped implements settlement.EmergencyStop.
func (s *EmergencyStop) Stopped(context.Context) error {
	stop, err := s.Active()
	if stop != nil {
		return fmt.Errorf("all sending is stopped by %s since %s: %s; run settled resume --reason … to resume it", stop.Who, stop.At.UTC().Format(time.RFC3339), stop.Reason)
	}
	return err
}

// Active returns the stop that is in force as far as is known, and an error if it is
// unknown whether there is one.
func (s *EmergencyStop) Active() (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unrecorded != nil:
		return s.unrecorded, nil
	case s.active != nil:
		return s.active, nil
	case time.Since(s.readAt) <= refreshTrust:
		return nil, nil
	case s.readErr != nil:
		return nil, fmt.Errorf("it is not known whether all sending is stopped: %w", s.readErr)
	default:
		return nil, errors.New("it is not known yet whether all sending is stopped")
	}
}

// Stop implements settlement.EmergencyStop. It stops this replica at once, and all others
// by a record. A finding about a session that is already on record does not stop sending
// again, because an operator may have resumed it since. The same session with other
// amounts is another finding.
func (s *EmergencyStop) Stop(ctx context.Context, o settlement.Outcome, f settlement.Failure) error {
	stop := Record{
		Action: ActionStop, Who: s.log.Who, At: time.Now(), Reason: consumer.OneLine(f.Message, 1<<10),
		Session: o.Session, Scenario: o.Scenario, Code: f.Code,
		Origin: o.Ref.Stream + "/" + strconv.FormatUint(o.Ref.Sequence, 10),
	}
	recorded, err := s.isRecorded(ctx, stop)
	if recorded {
		return nil
	}
	s.mu.Lock()
	if s.unrecorded == nil {
		s.unrecorded = &stop
	}
	s.mu.Unlock()
	s.log.cfg.Log.Error().Str("session", stop.Session.Token()).Str("reason", stop.Reason).Msg("overpayment found: all sending stops, on every replica")
	if err == nil {
		_, err = s.log.Append(ctx, stop, "stop/"+consumer.MessageID(string(stop.Session), stop.Reason))
	}
	if err != nil {
		return fmt.Errorf("a session was paid more than was in it, and the stop for the other replicas could not be recorded: %w", err)
	}
	s.reload.Soon()
	return nil
}

// isRecorded reports whether a stop for the same session and reason is in the stream.
func (s *EmergencyStop) isRecorded(ctx context.Context, stop Record) (bool, error) {
	stops, _, err := s.log.stops.Records(ctx)
	for _, r := range stops {
		if r.Session == stop.Session && r.Reason == stop.Reason {
			return true, nil
		}
	}
	return false, err
}

// Refresh reads the stream and updates the state.
func (s *EmergencyStop) Refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	began := time.Now()
	stop, resume, recorded, err := s.readStream(ctx)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // the caller ends
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	log := &s.log.cfg.Log
	if err != nil {
		if s.readErr == nil {
			log.Warn().Err(err).Msg("it is unknown whether all sending is stopped: after 5 s without an answer nothing is sent")
		}
		s.readErr = err
		return
	}
	previous := s.active
	s.active, s.readErr = nil, nil
	if resume == nil {
		s.active = stop
	}
	if !began.Before(s.validFrom) {
		s.readAt = began
	}
	if recorded != nil && s.unrecorded == recorded {
		s.unrecorded = nil
	}
	switch {
	case s.active != nil && (previous == nil || previous.Sequence != s.active.Sequence):
		log.Error().Str("who", s.active.Who).Time("since", s.active.At).Str("reason", s.active.Reason).Msg("all sending is stopped: outcomes wait until settled resume")
	case s.active == nil && previous != nil && resume != nil:
		log.Warn().Str("who", resume.Who).Str("reason", resume.Reason).Msg("sending is resumed")
	}
}

// readStream returns the last stop, the resume that lifts it, and the stop by this replica
// if that is in the stream now. It looks for the latter first: a stop that is recorded
// between the two reads would otherwise be missed.
func (s *EmergencyStop) readStream(ctx context.Context) (stop, resume, recorded *Record, err error) {
	if !s.log.js.Conn().IsConnected() {
		return nil, nil, nil, errors.New("NATS is not connected")
	}
	s.mu.Lock()
	active, unrecorded := s.active, s.unrecorded
	s.mu.Unlock()
	if unrecorded != nil {
		found, err := s.isRecorded(ctx, *unrecorded)
		if err != nil {
			return nil, nil, nil, err
		}
		if found {
			recorded = unrecorded
		}
	}
	stop, resume, err = s.log.lastStop(ctx)
	inForce := stop != nil && resume == nil
	if err != nil || active == nil || inForce || resume != nil && resume.Stored.After(active.Stored) {
		return stop, resume, recorded, err
	}
	// The stream was deleted or restored from an older copy: it has lost the stop, and
	// nobody resumed since.
	lost := *active
	lost.Reason = consumer.OneLine("the stream of operations lost a stop by "+active.Who+", it is recorded again: "+active.Reason, 4<<10)
	lost, err = s.log.Append(ctx, lost, fmt.Sprintf("again/%d/%d", active.Sequence, active.Stored.UnixNano()))
	lost.Stored = active.Stored
	return &lost, nil, recorded, err
}
