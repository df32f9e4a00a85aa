package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/settlement"
)

// How often a replica looks whether sending is stopped, how long one look may take,
// for how long what it saw is believed, and how long a stop may take from being
// heard of to being stored: a look that began before may have missed it.
const (
	brakeLook     = time.Second
	brakeLookTime = 2 * time.Second
	brakeTrust    = 5 * time.Second
	brakeStoring  = 500 * time.Millisecond
)

// EmergencyStop is settlement.EmergencyStop on the stream of operations. What it knows it knows from
// the stream's leader, asked once a second, and at once when it hears a stop or a
// resume being published. What it doesn't know counts as stopped: before the first
// look, after a reconnection, and where the stream couldn't be read for 5 seconds.
type EmergencyStop struct {
	operations *Operations
	hurried    chan struct{}

	mu      sync.Mutex
	looked  time.Time  // when the last good look began; zero: nothing is known
	from    time.Time  // a look that began before is no good
	trouble error      // of the last look
	stop    *Operation // the one in force
	pulled  *incident  // by this replica, and not seen in the stream yet
}

var _ settlement.EmergencyStop = (*EmergencyStop)(nil)

// NewEmergencyStop needs Prefix and Log of cfg. It knows nothing before Look.
func NewEmergencyStop(js jetstream.JetStream, cfg Config) *EmergencyStop {
	o := NewOperations(js, cfg)
	o.Who = "settled, " + o.Who
	return &EmergencyStop{operations: o, hurried: make(chan struct{}, 1)}
}

// Run looks again and again until ctx ends.
func (b *EmergencyStop) Run(ctx context.Context) {
	for action, heard := range map[string]func(){ActionStop: func() { b.forget(brakeStoring) }, ActionResume: b.hurry} {
		sub, err := b.operations.js.Conn().Subscribe(OperationSubject(b.operations.cfg.Prefix, action), func(*nats.Msg) { heard() })
		if err != nil {
			b.log().Warn().Err(err).Msg("stops and resumes can't be heard, only looked for every second")
			continue
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	tick := time.NewTicker(brakeLook)
	defer tick.Stop()
	for {
		b.Refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-b.hurried:
		case <-tick.C:
		}
	}
}

// Forget makes what is known worth nothing until the next look, which comes at once.
// It is to be called whenever the connection to NATS was away.
func (b *EmergencyStop) Forget() { b.forget(0) }

// forget does so for a while at least.
func (b *EmergencyStop) forget(atLeast time.Duration) {
	b.mu.Lock()
	b.looked, b.from = time.Time{}, time.Now().Add(atLeast)
	b.mu.Unlock()
	b.hurry()
}

func (b *EmergencyStop) hurry() {
	select {
	case b.hurried <- struct{}{}:
	default: // a look comes already
	}
}

// Stopped implements settlement.EmergencyStop.
func (b *EmergencyStop) Stopped(context.Context) error {
	stop, err := b.Active()
	if stop != nil {
		return fmt.Errorf("all sending is stopped by %s since %s: %s; settled resume --reason … lets it go on", stop.Who, stop.At.UTC().Format(time.RFC3339), stop.Reason)
	}
	return err
}

// Active is the stop that is in force, as far as is known, and an error where it
// isn't known whether there is one.
func (b *EmergencyStop) Active() (*Operation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pulled != nil:
		op := b.pulled.operation(b.operations.Who)
		return &op, nil
	case b.stop != nil:
		return b.stop, nil
	case time.Since(b.looked) <= brakeTrust:
		return nil, nil
	case b.trouble != nil:
		return nil, fmt.Errorf("it is not known whether all sending is stopped: %w", b.trouble)
	default:
		return nil, errors.New("it is not known yet whether all sending is stopped")
	}
}

// Stop implements settlement.EmergencyStop: for one incident once, whoever makes it. What was
// stopped for already is not stopped for again, for a person may have resumed.
func (b *EmergencyStop) Stop(ctx context.Context, o settlement.Outcome, f settlement.Failure) error {
	found := incident{session: o.Session, text: line(f.Message, 1<<10), outcome: o, code: f.Code, at: time.Now()}
	known, err := b.operations.stops.has(ctx, b.operations, found)
	if known {
		return nil
	}
	b.pull(found)
	if err == nil {
		_, err = b.operations.record(ctx, found.operation(""), "stop/"+MessageID(string(found.session), found.text))
	}
	if err != nil {
		return fmt.Errorf("a session was paid more than was in it, and the stop of everybody else can't be recorded: %w", err)
	}
	b.hurry()
	return nil
}

// pull stops this replica, at once.
func (b *EmergencyStop) pull(f incident) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pulled == nil {
		b.pulled = &f
	}
	b.log().Error().Str("session", f.session.Token()).Str("reason", f.text).Msg("an incident: all sending stops, on every replica")
}

// Refresh asks the stream whether sending is stopped.
func (b *EmergencyStop) Refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, brakeLookTime)
	defer cancel()
	l := sight{began: time.Now()}
	l.err = b.look(ctx, &l)
	if l.err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // we are stopped ourselves
	}
	b.learned(l)
}

// sight is what one look saw.
type sight struct {
	began        time.Time
	recorded     *incident // stands in the stream now
	stop, resume *Operation
	err          error
}

// look asks for what this replica stopped for by itself before it asks what holds:
// the other way round a stop could come in between, and be missed.
func (b *EmergencyStop) look(ctx context.Context, l *sight) error {
	if !b.operations.js.Conn().IsConnected() {
		return errDisconnected
	}
	s, err := b.operations.stream(ctx)
	if err != nil {
		return err
	}
	if l.recorded, err = b.pulledAndRecorded(ctx); err != nil {
		return err
	}
	if l.stop, l.resume, err = b.operations.standing(ctx, s); err != nil {
		return err
	}
	if lost := b.lost(l.stop, l.resume); lost != nil {
		again, err := b.again(ctx, *lost)
		l.stop, l.resume = &again, nil
		return err
	}
	return nil
}

// lost is the stop that this replica knows of and that the stream doesn't any more,
// though nobody resumed since: the stream was deleted, or is an older copy.
func (b *EmergencyStop) lost(stop, resume *Operation) *Operation {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop == nil || inForce(stop, resume) || resume != nil && resume.Stored.After(b.stop.Stored) {
		return nil
	}
	return b.stop
}

func (b *EmergencyStop) again(ctx context.Context, lost Operation) (Operation, error) {
	op := lost
	op.Reason = line("the stream of operations lost a stop by "+lost.Who+", it is recorded again: "+lost.Reason, 4<<10)
	op, err := b.operations.record(ctx, op, fmt.Sprintf("again/%d/%d", lost.Sequence, lost.Stored.UnixNano()))
	op.Stored = lost.Stored
	return op, err
}

// pulledAndRecorded is what this replica stopped for by itself, once it stands in
// the stream: from then on the stream says what holds.
func (b *EmergencyStop) pulledAndRecorded(ctx context.Context) (*incident, error) {
	b.mu.Lock()
	pulled := b.pulled
	b.mu.Unlock()
	if pulled == nil {
		return nil, nil
	}
	known, err := b.operations.stops.has(ctx, b.operations, *pulled)
	if err != nil || !known {
		return nil, err
	}
	return pulled, nil
}

// learned takes note of a look.
func (b *EmergencyStop) learned(l sight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.err != nil {
		if b.trouble == nil {
			b.log().Warn().Err(l.err).Msg("it can't be told whether all sending is stopped: after 5 s without an answer nothing is sent")
		}
		b.trouble = l.err
		return
	}
	was := b.stop
	b.stop, b.trouble = nil, nil
	if inForce(l.stop, l.resume) {
		b.stop = l.stop
	}
	if !l.began.Before(b.from) {
		b.looked = l.began
	}
	if l.recorded != nil && b.pulled == l.recorded {
		b.pulled = nil
	}
	b.tell(was, l.resume)
}

// tell logs what changed.
func (b *EmergencyStop) tell(was, resume *Operation) {
	switch {
	case b.stop != nil && (was == nil || was.Sequence != b.stop.Sequence):
		b.log().Error().Str("who", b.stop.Who).Time("since", b.stop.At).Str("reason", b.stop.Reason).Msg("all sending is stopped: outcomes wait until settled resume")
	case b.stop == nil && was != nil && resume != nil:
		b.log().Warn().Str("who", resume.Who).Str("reason", resume.Reason).Msg("sending is resumed")
	}
}

func (b *EmergencyStop) log() *zerolog.Logger { return &b.operations.cfg.Log }
