package streamreader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrSetBack is reported by Follow where the stream ends below what was read of it, or
// has another message there: it was created again, or its data was restored.
var ErrSetBack = errors.New("the stream was set back")

// ErrRead is returned by the function of Follow that gets the messages where it can't read
// more of the stream itself.
var ErrRead = errors.New("can't read the stream")

// Follow calls fn with every selected message, in order, and waits for more until ctx
// ends or fn returns an error, which is returned; nil for ErrEnough and where ctx ends.
//
// Nothing else ends it, except that the connection is closed for good. Where fn returns
// ErrRead, it is called with the message again. A stream that is missing or can't be read
// is waited for; report, if not nil, is called with the reason when that begins, when the
// reason changes and once a minute, and with nil when the stream can be read again. Where
// the stream was set back, report is called with ErrSetBack, and Follow goes on with what
// is in it: a stream that was created again is read from its first message, restored data
// from the first message that is newer than the last one read. An error that report
// returns ends Follow.
//
// The stream is asked for news about once a second; a subscription to the subjects,
// where the user has the right to it, only makes that earlier.
func (r *Reader) Follow(ctx context.Context, s Selection, report func(error) error, fn func(*jetstream.RawStreamMsg) error) error {
	f := following{Reader: r, selection: s, report: report, fn: fn}
	return f.follow(ctx)
}

// FollowWith is Follow with the reader that open returns. open is called before the first
// read, after each one that failed, and where the connection is lost: it may return the
// same reader, or one on another connection. An error of open is reported like that of a
// read.
func FollowWith(ctx context.Context, open func(context.Context) (*Reader, error), s Selection, report func(error) error, fn func(*jetstream.RawStreamMsg) error) error {
	f := following{open: open, selection: s, report: report, fn: fn}
	return f.follow(ctx)
}

func (f *following) follow(ctx context.Context) error {
	f.news = make(chan struct{}, 1)
	f.unsubscribe = func() {}
	defer func() { f.unsubscribe() }()
	if f.Reader != nil {
		f.subscribe()
	}
	err := f.run(ctx)
	if ctx.Err() != nil && !f.refused || errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

// following is a Follow under way.
type following struct {
	*Reader
	open        func(context.Context) (*Reader, error) // nil: the reader stays
	selection   Selection
	report      func(error) error
	fn          func(*jetstream.RawStreamMsg) error
	news        chan struct{}
	unsubscribe func()

	begun      bool
	next       uint64                  // the sequence to read next
	created    time.Time               // the stream's
	missing    bool                    // the stream was, when Follow began
	last       *jetstream.RawStreamMsg // the stream's last message as of now, without its content
	reconnects uint64                  // the connection's, when last was compared with the stream
	compare    bool                    // the connection is another one than then
	trouble    string                  // what was reported; empty: all is well
	told       time.Time               // when trouble was reported
	refused    bool                    // fn or report returned an error
}

// reopen uses the reader that open returns from now on.
func (f *following) reopen(ctx context.Context) error {
	r, err := f.open(ctx)
	if err != nil {
		return err
	}
	other := f.Reader == nil || f.nc != r.nc
	f.Reader = r
	if other {
		f.compare = true
		f.unsubscribe()
		f.subscribe()
	}
	return nil
}

// subscribe has news of the subjects wake the reading.
func (f *following) subscribe() {
	var all []*nats.Subscription
	for _, subject := range f.selection.Subjects {
		sub, err := f.nc.Subscribe(subject, func(*nats.Msg) {
			select {
			case f.news <- struct{}{}:
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

func (f *following) run(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		came, err := f.step(ctx)
		switch {
		case ctx.Err() != nil || f.refused:
			return err
		case err != nil && f.open == nil && f.nc.IsClosed():
			return err
		case err != nil:
			if err := f.tell(err); err != nil {
				return err
			}
			sleep(ctx, pause)
			pause = min(2*pause, longestPause)
			continue
		}
		if err := f.tell(nil); err != nil {
			return err
		}
		if pause = firstPause; !came {
			f.wait(ctx)
		}
	}
	return nil
}

// wait waits for news of the subjects, or a second. A message is heard before it is
// stored: it may take a moment until it can be read.
func (f *following) wait(ctx context.Context) {
	timer := time.NewTimer(f.pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-f.news:
	}
	for pause := 5 * time.Millisecond; ctx.Err() == nil && pause < f.pause; pause *= 2 {
		if info, err := f.Info(ctx); err != nil || info.State.LastSeq >= f.next {
			return
		}
		sleep(ctx, pause)
	}
}

// step reads what the stream has by now, and reports whether there was anything.
func (f *following) step(ctx context.Context) (came bool, err error) {
	if f.open != nil && (f.Reader == nil || f.trouble != "" || !f.nc.IsConnected()) {
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
	one := *f.Reader
	one.quiet = 0 // follow itself retries, and reports
	err = one.between(ctx, f.selection, f.next, end, func(m *jetstream.RawStreamMsg) error {
		if err := f.fn(m); err != nil {
			f.refused = !errors.Is(err, ErrRead)
			return err
		}
		f.next, f.last = m.Sequence+1, &jetstream.RawStreamMsg{Sequence: m.Sequence, Time: m.Time}
		return nil
	})
	if err == nil {
		f.next, f.last = end+1, lastOf(info)
	}
	return true, err
}

// position finds the sequence to read next, at first and where the stream was set back.
func (f *following) position(ctx context.Context, info *jetstream.StreamInfo) error {
	if !f.begun {
		return f.begin(ctx, info)
	}
	reconnects := f.nc.Stats().Reconnects
	recreated, shorter := !info.Created.Equal(f.created), info.State.LastSeq+1 < f.next
	if !recreated && !shorter && (f.trouble != "" || f.compare || reconnects != f.reconnects) {
		var err error
		if shorter, err = f.replaced(ctx); err != nil {
			return err
		}
	}
	if !recreated && !shorter {
		f.reconnects, f.compare = reconnects, false
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
	err := fmt.Errorf("stream %s: %w: it ends at %d, and was read up to %d: going on at %d",
		f.stream, ErrSetBack, info.State.LastSeq, f.next-1, next)
	if err := f.say(err); err != nil {
		return err
	}
	f.next, f.created, f.last, f.reconnects, f.compare = next, info.Created, nil, reconnects, false
	return nil
}

// begin finds where to begin. A stream that was missing has nothing but news.
func (f *following) begin(ctx context.Context, info *jetstream.StreamInfo) (err error) {
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
		f.begun, f.created, f.reconnects, f.compare = true, info.Created, f.nc.Stats().Reconnects, false
	}
	return err
}

// lastOf is the last message of a stream, without its content; nil where it has none.
func lastOf(info *jetstream.StreamInfo) *jetstream.RawStreamMsg {
	if info.State.LastSeq == 0 {
		return nil
	}
	return &jetstream.RawStreamMsg{Sequence: info.State.LastSeq, Time: info.State.LastTime}
}

// replaced reports whether another message is where the last one was read. One that was
// deleted since says nothing.
func (f *following) replaced(ctx context.Context) (bool, error) {
	if f.last == nil {
		return false, nil
	}
	m, err := f.Get(ctx, f.last.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil && !m.Time.Equal(f.last.Time), err
}

// tellAgain is after what time trouble that lasts is reported again.
const tellAgain = time.Minute

// tell reports trouble when it changes, and once a minute while it lasts.
func (f *following) tell(err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == f.trouble && (err == nil || time.Since(f.told) < tellAgain) {
		return nil
	}
	f.trouble, f.told = text, time.Now()
	return f.say(err)
}

func (f *following) say(err error) error {
	if f.report == nil {
		return nil
	}
	if err := f.report(err); err != nil {
		f.refused = true
		return err
	}
	return nil
}
