package settlement

import (
	"errors"
	"testing"
	"time"
)

// TestRefusalOfAnEarlierIntent: a request is refused; before the session is read again the
// call is suspended for longer than the fence, and another delivery records an intent of its
// own, whose request may still take effect. The refusal does not apply to that request.
func TestRefusalOfAnEarlierIntent(t *testing.T) {
	w := newWorld(t)
	o := partial(t, 1)
	w.refuse = errors.New("an open app session not found: record not found")
	interrupted := false
	w.fault = func(_ int, name string) fate {
		if name != "head" || w.sent != 1 || interrupted {
			return works
		}
		interrupted, w.refuse = true, nil
		w.now = w.now.Add(expiry + 2*margin)
		w.sends(late, always)
		if _, err := w.deliver(o); err == nil {
			t.Error("the request of the other delivery is late, and it settled")
		}
		w.fault = func(int, string) fate { return works }
		return works
	}
	w.waits(o, InDoubt)
	if !interrupted {
		t.Fatal("there was no other delivery")
	}
	w.want("closing closing ", 2)
	w.now = w.now.Add(time.Second)
	if s, err := w.run(o); err != nil || s.Entry.State != EntryClosed {
		t.Errorf("%+v, %v", s.Entry, err)
	}
}
