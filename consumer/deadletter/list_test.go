package deadletter

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger/natstest"
	"settled/settlement"
)

// fill stores letters as fast as the server takes them.
func (r *letterRig) fill(n int) {
	r.t.Helper()
	for i := range n {
		m := &nats.Msg{Subject: "deadletter.cancellation", Header: natstest.Header(headerCode, string(settlement.Unauthorized), headerOrigin, "OUTCOMES/1", headerSession, natstest.Session), Data: []byte("{}")}
		if i%3 == 0 { // as a message looks that was made to pass for a control message
			m.Header.Set("Status", "409")
			m.Header.Set("Description", "Consumer Deleted")
			m.Data = nil
		}
		natstest.Must(r.js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)))
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(natstest.Patience):
		r.t.Fatal("not stored")
	}
}

// Many letters are listed in order, including those that look like control messages.
func TestListMany(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	const n = 2501
	r.fill(n)
	letters, err := r.letters.List(t.Context(), Filter{})
	if err != nil || len(letters) != n {
		t.Fatalf("%d letters, %v; want %d", len(letters), err, n)
	}
	for i, l := range letters {
		if l.Sequence != uint64(i+1) || l.Code != settlement.Unauthorized || l.Session != natstest.Session {
			t.Fatalf("the letter at %d is %+v", i, l)
		}
	}
}

// Letters that are removed while they are listed are left out, and List ends.
func TestListWhileLettersAreRemoved(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	const n = 1050
	r.fill(n)
	s := natstest.Must(r.js.Stream(t.Context(), "DEADLETTERS"))
	last := uint64(0)
	err := r.letters.Each(t.Context(), Filter{}, func(l Letter) error {
		if l.Sequence == 10 {
			if err := s.Purge(context.Background(), jetstream.WithPurgeSequence(n-5)); err != nil {
				return err
			}
			for seq := uint64(n - 5); seq <= n; seq++ {
				if err := s.DeleteMsg(context.Background(), seq); err != nil {
					return err
				}
			}
		}
		last = l.Sequence
		return nil
	})
	if err != nil || last < 10 {
		t.Errorf("ended at %d: %v", last, err)
	}
}

func TestEachStopsAtAnError(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	r.fill(5)
	enough := errors.New("no more")
	var seen []uint64
	err := r.letters.Each(t.Context(), Filter{From: 2}, func(l Letter) error {
		if seen = append(seen, l.Sequence); len(seen) == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || fmt.Sprint(seen) != "[2 3]" {
		t.Errorf("%v, %v", seen, err)
	}
	if list, err := r.letters.List(t.Context(), Filter{From: 6}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
