package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	settingsPeriod = 2 * time.Second // between verifications
	settingsTime   = 2 * time.Second // for one of them
	settingsTrust  = 5 * time.Second // in which an answer counts where the next one fails
)

// Settings verifies, while a service runs, that OUTCOMES, DEADLETTERS, OPERATIONS and
// the durable are as they must be. What EnsureStreams and EnsureDurable refuse is an
// error; so is what they warn of where it was not so at the first verification, for
// then somebody is changing it. Limits that lose nothing are no error.
type Settings struct {
	js      jetstream.JetStream
	cfg     Config
	fence   time.Duration
	hurried chan struct{}
	turn    chan struct{} // one verifies at a time, and the answer is good for all who waited

	mu        sync.Mutex
	began     time.Time // the last verification that found nothing; zero: none since then
	found     error     // what endangers money, of the last one that was answered
	trouble   error     // why the last one wasn't answered
	accepted  []string  // weaknesses at the first one
	known     map[string]extent
	first     bool // nothing was verified yet
	removedAt time.Time
	removed   error // messages vanished then
	remind    Reminder
}

// extent is what shows that messages of a stream were removed.
type extent struct {
	created time.Time
	first   uint64
	deleted int
	settled uint64 // up to this sequence all had their answer; a purge moves that on, so the last look's counts
}

// NewSettings needs Prefix, Replicas, Durable and Log of cfg. Where messages vanish
// from OUTCOMES before they are settled, or from OPERATIONS, Verified is an error for
// the fence's duration. It knows nothing before Verify.
func NewSettings(js jetstream.JetStream, cfg Config, fence time.Duration) *Settings {
	return &Settings{
		js: js, cfg: cfg.withDefaults(), fence: fence, hurried: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		known: map[string]extent{}, first: true,
	}
}

// Run verifies every two seconds, and at once when the server tells of a change,
// until ctx ends. changed is called at each such message, if it isn't nil.
func (s *Settings) Run(ctx context.Context, changed func()) {
	for _, subject := range s.advisories() {
		sub, err := s.js.Conn().Subscribe(subject, func(*nats.Msg) {
			s.Forget()
			if changed != nil {
				changed()
			}
		})
		if err != nil {
			s.cfg.Log.Warn().Err(err).Str("subject", subject).Msg("changes of this stream or consumer are noticed by asking every 2 s alone")
			continue
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	tick := time.NewTicker(settingsPeriod)
	defer tick.Stop()
	for {
		_ = s.Verify(ctx)
		select {
		case <-ctx.Done():
			return
		case <-s.hurried:
		case <-tick.C:
		}
	}
}

// advisories are the subjects on which the server tells of changes.
func (s *Settings) advisories() (subjects []string) {
	outcomes := OutcomesStream(s.cfg.Prefix)
	for _, stream := range []string{outcomes, DeadLettersStream(s.cfg.Prefix), OperationsStream(s.cfg.Prefix), ledgerStream(s.cfg.Prefix)} {
		for _, kind := range []string{"CREATED", "DELETED", "UPDATED", "RESTORE_COMPLETE"} {
			subjects = append(subjects, "$JS.EVENT.ADVISORY.STREAM."+kind+"."+stream)
		}
	}
	for _, kind := range []string{"CREATED", "DELETED", "PAUSE"} {
		subjects = append(subjects, "$JS.EVENT.ADVISORY.CONSUMER."+kind+"."+outcomes+"."+s.cfg.Durable)
	}
	return subjects
}

// Forget makes what was verified worth nothing, and has it verified again at once. It
// is to be called whenever the connection to NATS was away.
func (s *Settings) Forget() {
	s.mu.Lock()
	s.began = time.Time{}
	s.mu.Unlock()
	select {
	case s.hurried <- struct{}{}:
	default: // asked already
	}
}

// Problem is what the last verification found; nil where all is well, or nothing was
// verified yet.
func (s *Settings) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.problem(); err != nil || time.Since(s.began) < settingsTrust {
		return err
	}
	return s.trouble
}

// problem is what endangers money, as far as is known; the caller has the lock.
func (s *Settings) problem() error {
	if s.found != nil {
		return s.found
	}
	if s.removed != nil && time.Since(s.removedAt) < s.fence {
		return s.removed
	}
	return nil
}

// Verified is nil where a verification that is at most that old found all well. Where
// there is none that new, it verifies.
func (s *Settings) Verified(ctx context.Context, within time.Duration) error {
	return s.verifySince(ctx, time.Now().Add(-within))
}

// Verify asks the servers, or shares the answer of a call that began later.
func (s *Settings) Verify(ctx context.Context) error { return s.verifySince(ctx, time.Now()) }

func (s *Settings) verifySince(ctx context.Context, asked time.Time) error {
	if fresh, err := s.answered(asked); fresh {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if fresh, err := s.answered(asked); fresh {
		return err
	}
	began := time.Now()
	seen := s.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // the caller is stopped
	}
	return s.learn(seen, began)
}

func (s *Settings) answered(asked time.Time) (fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began.After(asked), s.problem()
}

// seen is what one verification saw.
type seen struct {
	streams    []Inspection
	durable    Inspection
	weaknesses []string
}

// look asks for all at once.
func (s *Settings) look(ctx context.Context) seen {
	ctx, cancel := context.WithTimeout(ctx, settingsTime)
	defer cancel()
	wants := StreamConfigs(s.cfg)
	found := seen{streams: make([]Inspection, len(wants))}
	if !s.js.Conn().IsConnected() {
		found.durable.Err = errDisconnected
		return found
	}
	var looks sync.WaitGroup
	for i, want := range wants {
		looks.Go(func() { found.streams[i] = inspectStream(ctx, s.js, want, s.cfg.Prefix) })
	}
	looks.Go(func() { found.durable = InspectDurable(ctx, s.js, s.cfg) })
	looks.Wait()
	for i, want := range wants {
		if info := found.streams[i].Stream; info != nil {
			for _, text := range streamWeaknesses(info.Config, want, s.cfg.Prefix) {
				found.weaknesses = append(found.weaknesses, "stream "+want.Name+": "+text)
			}
		}
	}
	if info := found.durable.Durable; info != nil {
		found.weaknesses = append(found.weaknesses, durableWeaknesses(info.Config, DurableConfig(s.cfg))...)
	}
	return found
}

// learn takes note of a verification.
func (s *Settings) learn(saw seen, began time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, troubled := s.problem(), s.trouble != nil
	problems, unknown := s.judge(saw)
	if s.first && unknown == nil {
		s.accepted, s.first = saw.weaknesses, false
	}
	for _, text := range saw.weaknesses {
		if !s.first && !slices.Contains(s.accepted, text) {
			problems = append(problems, text+" (to keep the new setting, start settled again)")
		}
	}
	s.trouble = unknown
	switch {
	case len(problems) > 0:
		s.began, s.found = time.Time{}, fmt.Errorf("all sending is held until this is put back: %s", strings.Join(problems, "; "))
	case unknown == nil:
		s.began, s.found = began, nil
	}
	s.tell(before, troubled)
	if err := s.problem(); err != nil {
		return err
	}
	return unknown
}

// judge says what endangers money, and why anything isn't known.
func (s *Settings) judge(saw seen) (problems []string, unknown error) {
	for _, i := range append(slices.Clone(saw.streams), saw.durable) {
		what := "stream " + i.Name
		if i.Name == saw.durable.Name {
			what = "consumer " + i.Name
		}
		switch {
		case i.Err != nil:
			unknown = fmt.Errorf("%s could not be verified, and nothing is sent: %w", what, i.Err)
		case i.Create != "":
			unknown = fmt.Errorf("%s is missing, and nothing is sent: %s", what, i.Create)
		}
		for _, danger := range i.Dangers {
			problems = append(problems, what+": "+danger)
		}
		if i.Stream != nil {
			s.count(i.Stream, saw.durable.Durable)
		}
	}
	if d := saw.durable.Durable; d != nil && paused(d.Config, time.Now()) {
		problems = append(problems, "consumer "+d.Name+": "+pausedText(d.Config, DurableConfig(s.cfg)))
	}
	return problems, unknown
}

// count notices removed messages. Dead letters are deleted when they are done with.
func (s *Settings) count(info *jetstream.StreamInfo, durable *jetstream.ConsumerInfo) {
	name := info.Config.Name
	if name == DeadLettersStream(s.cfg.Prefix) {
		return
	}
	is := extent{info.Created, max(info.State.FirstSeq, 1), info.State.NumDeleted, 0} // the first is 0 while it is empty
	if name == OutcomesStream(s.cfg.Prefix) && durable != nil {
		is.settled = durable.AckFloor.Stream
	}
	was, known := s.known[name]
	s.known[name] = is
	if !known || !was.created.Equal(is.created) {
		return
	}
	risen := is.first > was.first && is.first-1 > was.settled
	if risen || is.deleted > was.deleted {
		s.removedAt = time.Now()
		s.removed = fmt.Errorf("messages were removed from stream %s while settled ran (its first sequence was %d and is %d, deleted ones were %d and are %d): all sending is held for %s; run settled reconcile", name, was.first, is.first, was.deleted, is.deleted, s.fence)
	}
}

// tell logs what changed; the caller has the lock.
func (s *Settings) tell(before error, troubled bool) {
	now := s.problem()
	switch {
	case now != nil:
		if s.remind.Due(now.Error(), time.Now()) {
			s.cfg.Log.Error().Err(now).Msg("sending is held: see SettledSettingsChanged in deploy/RUNBOOK.md")
		}
	case before != nil:
		s.remind = Reminder{}
		s.cfg.Log.Info().Msg("the streams and the consumer are as they must be again")
	case s.trouble != nil && !troubled:
		s.cfg.Log.Warn().Err(s.trouble).Msg("the settings of the streams could not be verified")
	}
}

// Reminder says when a condition that lasts is to be logged: when it begins or
// changes, once more after two seconds, for whoever reads the log after a change that
// he made, and then every five minutes.
type Reminder struct {
	text  string
	times int
	next  time.Time
}

// Due reports whether the condition is to be logged now.
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
