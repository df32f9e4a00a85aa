package streamreader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrRestored is reported by Follow if the stream ends below what was read of it, or
// has another message there: it was recreated, or its data was restored.
var ErrRestored = errors.New("the stream was recreated or restored from an older copy")

// ErrRead is returned by the function that receives the messages of Follow where it can't
// read more of the stream itself.
var ErrRead = errors.New("can't read the stream")

// OpenFunc returns a reader of the stream: always the same one, or one on a new connection.
type OpenFunc func(context.Context) (*Reader, error)

// Follow calls fn with every selected message, in order, and waits for more until ctx
// ends or fn returns an error, which is returned; nil for ErrEnough and where ctx ends.
// Where fn returns ErrRead, it is called with the message again.
//
// open is called before the first read, after each read that failed, and where the
// connection is lost. If the stream is missing or can't be read, Follow retries; report, if
// not nil, is called with the reason when that begins, when the reason changes and once a
// minute, and with nil when the stream can be read again. Where the stream was restored
// from an older copy, report is called with ErrRestored, and Follow continues with what is
// in it: a recreated stream is read from its first message, restored data from the first
// message that is newer than the last one read. An error that report returns ends Follow.
//
// The stream is polled about once a second. Unless the selection is Polled, a subscription
// to the subjects makes that earlier, if the user has the right to it.
func Follow(ctx context.Context, open OpenFunc, s Selection, report func(error) error, fn func(*jetstream.RawStreamMsg) error) error {
	f := follower{open: open, selection: s, report: report, fn: fn, published: make(chan struct{}, 1), unsubscribe: func() {}}
	defer func() { f.unsubscribe() }()
	err := f.run(ctx)
	if ctx.Err() != nil && !f.stopped || errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

// follower is a Follow in progress.
type follower struct {
	*Reader
	open        OpenFunc
	selection   Selection
	report      func(error) error
	fn          func(*jetstream.RawStreamMsg) error
	published   chan struct{} // receives a value when a message is published
	unsubscribe func()

	positioned bool
	next       uint64                  // the sequence to read next
	created    time.Time               // when the stream was created
	missing    bool                    // the stream did not exist when Follow began
	last       *jetstream.RawStreamMsg // the last message read, without its content
	reconnects uint64                  // the connection's count when last was compared with the stream
	reopened   bool                    // last was not compared since the connection was replaced
	problem    string                  // as reported; empty: none
	reportedAt time.Time               // when problem was reported
	stopped    bool                    // fn or report returned an error
}

func (f *follower) run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		found, err := f.step(ctx)
		if ctx.Err() != nil || f.stopped {
			return err
		}
		if reportErr := f.reportProblem(err); reportErr != nil {
			return reportErr
		}
		if err != nil {
			sleep(ctx, pause)
			pause = min(2*pause, longestPause)
			continue
		}
		if pause = firstPause; !found {
			f.wait(ctx)
		}
	}
	return nil
}

// step reads what the stream has by now, and reports whether there was anything.
func (f *follower) step(ctx context.Context) (found bool, err error) {
	if f.Reader == nil || f.problem != "" || !f.nc.IsConnected() {
		if err := f.reopen(ctx); err != nil {
			return false, err
		}
	}
	info, err := f.Info(ctx)
	f.missing = f.missing || errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil {
		return false, err
	}
	if err := f.position(ctx, info); err != nil {
		return false, err
	}
	end := info.State.LastSeq
	if end < f.next {
		return false, nil
	}
	err = f.Once().read(ctx, f.selection, f.next, end, func(m *jetstream.RawStreamMsg) error {
		if err := f.fn(m); err != nil {
			f.stopped = !errors.Is(err, ErrRead)
			return err
		}
		f.next = m.Sequence + 1
		if !m.Time.IsZero() {
			f.last = &jetstream.RawStreamMsg{Sequence: m.Sequence, Time: m.Time}
		}
		return nil
	})
	if err == nil {
		f.next, f.last = end+1, lastOf(info)
	}
	return true, err
}

// reopen uses the reader that open returns from now on.
func (f *follower) reopen(ctx context.Context) error {
	r, err := f.open(ctx)
	if err != nil {
		return err
	}
	replaced := f.Reader == nil || f.nc != r.nc
	f.Reader = r
	if replaced {
		f.reopened = true
		f.unsubscribe()
		f.subscribe()
	}
	return nil
}

// subscribe has messages on the subjects wake the reading.
func (f *follower) subscribe() {
	if f.selection.Polled {
		return
	}
	var all []*nats.Subscription
	for _, subject := range f.selection.Subjects {
		sub, err := f.nc.Subscribe(subject, func(*nats.Msg) {
			select {
			case f.published <- struct{}{}:
			default:
			}
		})
		if err == nil {
			all = append(all, sub)
		}
	}
	f.unsubscribe = func() {
		for _, sub := range all {
			_ = sub.Unsubscribe()
		}
	}
}

// wait waits for a message on the subjects, or a second. A message is delivered before it
// is stored: wait also waits until it can be read.
func (f *follower) wait(ctx context.Context) {
	timer := time.NewTimer(f.pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-f.published:
	}
	for pause := 5 * time.Millisecond; ctx.Err() == nil && pause < f.pause; pause *= 2 {
		if info, err := f.Info(ctx); err != nil || info.State.LastSeq >= f.next {
			return
		}
		sleep(ctx, pause)
	}
}

// position finds the sequence to read next, at first and where the stream was restored from
// an older copy.
func (f *follower) position(ctx context.Context, info *jetstream.StreamInfo) error {
	if !f.positioned {
		return f.begin(ctx, info)
	}
	reconnects := f.nc.Stats().Reconnects
	recreated, shorter := !info.Created.Equal(f.created), info.State.LastSeq+1 < f.next
	if !recreated && !shorter && (f.problem != "" || f.reopened || reconnects != f.reconnects) {
		var err error
		if shorter, err = f.replaced(ctx); err != nil {
			return err
		}
	}
	if !recreated && !shorter {
		f.reconnects, f.reopened = reconnects, false
		return nil
	}
	next := uint64(1)
	if !recreated && f.last != nil {
		var err error
		if next, err = f.start(ctx, Selection{Since: f.last.Time.Add(1)}); err != nil {
			return err
		}
	}
	next = min(next, info.State.LastSeq+1)
	err := f.callReport(fmt.Errorf("stream %s: %w: it ends at %d, and was read up to %d: continuing at %d",
		f.stream, ErrRestored, info.State.LastSeq, f.next-1, next))
	if err != nil {
		return err
	}
	f.next, f.created, f.last, f.reconnects, f.reopened = next, info.Created, nil, reconnects, false
	return nil
}

// begin finds the first sequence to read. In a stream that did not exist every message is
// new.
func (f *follower) begin(ctx context.Context, info *jetstream.StreamInfo) (err error) {
	switch {
	case f.selection.Fresh && !f.missing:
		f.next, f.last = info.State.LastSeq+1, lastOf(info)
	case f.selection.Fresh:
		f.next = 1
	default:
		f.next, err = f.start(ctx, f.selection)
		f.next = min(f.next, max(info.State.LastSeq+1, f.selection.From))
	}
	if err == nil {
		f.positioned, f.created, f.reconnects, f.reopened = true, info.Created, f.nc.Stats().Reconnects, false
	}
	return err
}

// lastOf returns the last message of a stream, without its content; nil where it has none.
func lastOf(info *jetstream.StreamInfo) *jetstream.RawStreamMsg {
	if info.State.LastSeq == 0 {
		return nil
	}
	return &jetstream.RawStreamMsg{Sequence: info.State.LastSeq, Time: info.State.LastTime}
}

// replaced reports whether the stream has another message at the sequence of the last one
// read. A message that was deleted since proves nothing.
func (f *follower) replaced(ctx context.Context) (bool, error) {
	if f.last == nil {
		return false, nil
	}
	m, err := f.Get(ctx, f.last.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil && !m.Time.Equal(f.last.Time), err
}

// reportInterval is the time between two reports of the same problem.
const reportInterval = time.Minute

// reportProblem reports a problem when it changes, and once a minute while it lasts.
func (f *follower) reportProblem(err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == f.problem && (err == nil || time.Since(f.reportedAt) < reportInterval) {
		return nil
	}
	f.problem, f.reportedAt = text, time.Now()
	return f.callReport(err)
}

func (f *follower) callReport(err error) error {
	if f.report == nil {
		return nil
	}
	if err := f.report(err); err != nil {
		f.stopped = true
		return err
	}
	return nil
}
