package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"settled/consumer/internal/refresh"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	verifyPeriod = 2 * time.Second // between two verifications
	verifyTime   = 2 * time.Second // for one of them
	verifyTrust  = 5 * time.Second // how long a result is relied on if the next verification fails
)

// SettingsMonitor verifies, while a service runs, that the settings of OUTCOMES,
// DEADLETTERS, OPERATIONS and the durable consumer are safe. What EnsureStreams and
// EnsureDurable refuse is an error, and so is a weakness that the first verification did
// not find, because someone is changing the settings. Limits that lose nothing are no
// error.
type SettingsMonitor struct {
	js    jetstream.JetStream
	cfg   Config
	fence time.Duration
	loop  refresh.Loop
	turn  chan struct{} // held during a verification, whose result counts for all who waited

	mu         sync.Mutex
	verifiedAt time.Time // when the last verification without a finding began; zero: none since
	problem    error     // what endangers money, as of the last verification that succeeded
	verifyErr  error     // why the last verification failed
	verified   bool      // a verification has succeeded
	accepted   []string  // weaknesses found by the first one
	extents    map[string]streamExtent
	removed    error // messages were removed
	removedAt  time.Time
	reminder   Reminder
}

// streamExtent shows whether messages were removed from a stream.
type streamExtent struct {
	created  time.Time
	firstSeq uint64
	deleted  int
	ackFloor uint64 // all messages up to this sequence are answered
}

// NewSettingsMonitor uses Prefix, Replicas, Durable and Log of cfg. After messages were
// removed from OUTCOMES before they were settled, or from OPERATIONS, Verified returns an
// error for the duration of fence.
func NewSettingsMonitor(js jetstream.JetStream, cfg Config, fence time.Duration) *SettingsMonitor {
	return &SettingsMonitor{
		js: js, cfg: cfg.withDefaults(), fence: fence, loop: refresh.New(), turn: make(chan struct{}, 1),
		extents: map[string]streamExtent{},
	}
}

// Run verifies every two seconds, and at once when the server reports a change, until ctx
// ends. It calls changed, if not nil, at each such report.
func (m *SettingsMonitor) Run(ctx context.Context, changed func()) {
	outcomes := OutcomesStream(m.cfg.Prefix)
	var subjects []string
	for _, stream := range []string{outcomes, DeadLettersStream(m.cfg.Prefix), OperationsStream(m.cfg.Prefix), ledgerStream(m.cfg.Prefix)} {
		for _, kind := range []string{"CREATED", "DELETED", "UPDATED", "RESTORE_COMPLETE"} {
			subjects = append(subjects, "$JS.EVENT.ADVISORY.STREAM."+kind+"."+stream)
		}
	}
	for _, kind := range []string{"CREATED", "DELETED", "PAUSE"} {
		subjects = append(subjects, "$JS.EVENT.ADVISORY.CONSUMER."+kind+"."+outcomes+"."+m.cfg.Durable)
	}
	for _, subject := range subjects {
		defer refresh.Subscribe(m.js.Conn(), subject, func() {
			m.Forget()
			if changed != nil {
				changed()
			}
		}, func(err error) {
			m.cfg.Log.Warn().Err(err).Str("subject", subject).Msg("no subscription: changes of this stream or consumer are found every 2 s only")
		})()
	}
	m.loop.Run(ctx, 0, func(ctx context.Context) time.Duration {
		_ = m.Verify(ctx)
		return verifyPeriod
	})
}

// Forget discards the last result and asks for a verification now. Call it whenever the
// connection to NATS was interrupted.
func (m *SettingsMonitor) Forget() {
	m.mu.Lock()
	m.verifiedAt = time.Time{}
	m.mu.Unlock()
	m.loop.Soon()
}

// Problem returns what the last verification found; nil if there was no problem, or no
// verification yet.
func (m *SettingsMonitor) Problem() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.currentProblem(); err != nil || time.Since(m.verifiedAt) < verifyTrust {
		return err
	}
	return m.verifyErr
}

// currentProblem returns what endangers money as far as is known. The caller holds mu.
func (m *SettingsMonitor) currentProblem() error {
	if m.problem != nil {
		return m.problem
	}
	if m.removed != nil && time.Since(m.removedAt) < m.fence {
		return m.removed
	}
	return nil
}

// Verified returns nil if a verification not older than within found no problem. If there
// is none, it verifies.
func (m *SettingsMonitor) Verified(ctx context.Context, within time.Duration) error {
	return m.verifySince(ctx, time.Now().Add(-within))
}

// Verify asks the servers, or shares the result of a call that began later.
func (m *SettingsMonitor) Verify(ctx context.Context) error { return m.verifySince(ctx, time.Now()) }

func (m *SettingsMonitor) verifySince(ctx context.Context, since time.Time) error {
	known := func() (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.verifiedAt.After(since), m.currentProblem()
	}
	if ok, err := known(); ok {
		return err
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if ok, err := known(); ok {
		return err
	}
	began := time.Now()
	streams, durable := m.inspect(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return m.update(streams, durable, began)
}

// inspect examines the streams and the durable consumer at the same time.
func (m *SettingsMonitor) inspect(ctx context.Context) (streams []Inspection, durable Inspection) {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	if !m.js.Conn().IsConnected() {
		return nil, Inspection{Name: m.cfg.Durable, Err: errDisconnected}
	}
	wants := StreamConfigs(m.cfg)
	streams = make([]Inspection, len(wants))
	var requests sync.WaitGroup
	for i, want := range wants {
		requests.Go(func() { streams[i] = inspectStream(ctx, m.js, want, m.cfg.Prefix) })
	}
	requests.Go(func() { durable = InspectDurable(ctx, m.js, m.cfg) })
	requests.Wait()
	return streams, durable
}

// update evaluates a verification, and logs what changed.
func (m *SettingsMonitor) update(streams []Inspection, durable Inspection, began time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	previous, failedBefore := m.currentProblem(), m.verifyErr != nil
	var problems, weaknesses []string
	m.verifyErr = nil
	for n, i := range append(slices.Clone(streams), durable) {
		what := "stream " + i.Name
		if n == len(streams) {
			what = "consumer " + i.Name
		}
		switch {
		case i.Err != nil:
			m.verifyErr = fmt.Errorf("%s could not be verified, and nothing is sent: %w", what, i.Err)
		case i.Create != "":
			m.verifyErr = fmt.Errorf("%s is missing, and nothing is sent: %s", what, i.Create)
		}
		for _, danger := range i.Dangers {
			problems = append(problems, what+": "+danger)
		}
		weaknesses = append(weaknesses, i.weaknesses...)
		if i.Stream != nil {
			m.checkRemoved(i.Stream, durable.Durable)
		}
	}
	if d := durable.Durable; d != nil {
		if text := pauseText(d.Config, OutcomesStream(m.cfg.Prefix)); text != "" {
			problems = append(problems, "consumer "+d.Name+": "+text)
		}
	}
	if !m.verified && m.verifyErr == nil {
		m.accepted, m.verified = weaknesses, true
	}
	for _, text := range weaknesses {
		if m.verified && !slices.Contains(m.accepted, text) {
			problems = append(problems, text+" (to keep the new setting, start settled again)")
		}
	}
	switch {
	case len(problems) > 0:
		m.verifiedAt, m.problem = time.Time{}, fmt.Errorf("all sending is held until this is put back: %s", strings.Join(problems, "; "))
	case m.verifyErr == nil:
		m.verifiedAt, m.problem = began, nil
	}
	problem := m.currentProblem()
	switch {
	case problem != nil:
		if m.reminder.Due(problem.Error(), time.Now()) {
			m.cfg.Log.Error().Err(problem).Msg("sending is held: see SettledSettingsChanged in deploy/RUNBOOK.md")
		}
		return problem
	case previous != nil:
		m.reminder = Reminder{}
		m.cfg.Log.Info().Msg("the settings of the streams and the consumer are safe again")
	case m.verifyErr != nil && !failedBefore:
		m.cfg.Log.Warn().Err(m.verifyErr).Msg("the settings of the streams could not be verified")
	}
	return m.verifyErr
}

// checkRemoved finds removed messages, except in the stream of dead letters, whose
// messages are deleted once they are replayed or discarded.
func (m *SettingsMonitor) checkRemoved(info *jetstream.StreamInfo, durable *jetstream.ConsumerInfo) {
	name := info.Config.Name
	if name == DeadLettersStream(m.cfg.Prefix) {
		return
	}
	is := streamExtent{created: info.Created, firstSeq: max(info.State.FirstSeq, 1), deleted: info.State.NumDeleted} // the first sequence of an empty stream is 0
	if name == OutcomesStream(m.cfg.Prefix) && durable != nil {
		is.ackFloor = durable.AckFloor.Stream
	}
	was, known := m.extents[name]
	m.extents[name] = is
	if !known || !was.created.Equal(is.created) {
		return
	}
	// A purge moves the ack floor, so that of the last verification counts.
	if is.firstSeq > was.firstSeq && is.firstSeq-1 > was.ackFloor || is.deleted > was.deleted {
		m.removedAt = time.Now()
		m.removed = fmt.Errorf("messages were removed from stream %s while settled ran (its first sequence was %d and is %d, deleted ones were %d and are %d): all sending is held for %s; run settled reconcile", name, was.firstSeq, is.firstSeq, was.deleted, is.deleted, m.fence)
	}
}

// Reminder says when to log a lasting condition: when it begins or changes, once more
// after two seconds, for an operator who reads the log after a change, and then every five
// minutes.
type Reminder struct {
	text  string
	times int
	next  time.Time
}

// Due reports whether to log the condition now.
func (r *Reminder) Due(text string, now time.Time) bool {
	if text != r.text {
		*r = Reminder{text: text}
	}
	if now.Before(r.next) {
		return false
	}
	r.times++
	r.next = now.Add(5 * time.Minute)
	if r.times == 1 {
		r.next = now.Add(2 * time.Second)
	}
	return true
}
