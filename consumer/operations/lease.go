package operations

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Holder says which process holds a lease.
type Holder struct {
	Host    string `json:"host"`
	PID     int    `json:"pid"`
	Replica string `json:"replica"` // random, of this process
	Seconds int    `json:"seconds"` // how long it is valid, from the time at which the server stored it
}

func (h Holder) String() string { return fmt.Sprintf("process %d on %s", h.PID, h.Host) }

// maxLease bounds how long a stored lease is respected.
const maxLease = time.Hour

// Lease says which replica does what one of them suffices for. It ends by the server's
// clock. It only avoids double work: after a lost lease, or when the clocks of a cluster's
// servers differ, two processes may hold it, so nothing may depend on its being held once.
type Lease struct {
	Self     Holder
	Duration time.Duration
	document *Document
}

// NewLease returns a lease of this process on the document whose subject ends in the token.
func NewLease(js jetstream.JetStream, prefix, token string, duration time.Duration) *Lease {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Lease{Self: Holder{Host: host, PID: os.Getpid(), Replica: rand.Text()}, Duration: duration, document: NewDocument(js, prefix, token)}
}

// Acquire takes or renews the lease, unless another process holds it. It returns the holder
// and the server's time.
func (l *Lease) Acquire(ctx context.Context) (holder Holder, now time.Time, err error) {
	data, stored, err := l.document.Load(ctx)
	if err != nil {
		return Holder{}, time.Time{}, err
	}
	info, err := l.document.reader.Info(ctx)
	if err != nil {
		return Holder{}, time.Time{}, err
	}
	now = info.TimeStamp
	holder = parseHolder(data)
	valid := min(time.Duration(holder.Seconds)*time.Second, maxLease)
	if holder.Replica != l.Self.Replica && now.Before(stored.Add(valid)) {
		return holder, now, nil
	}
	mine := l.Self
	mine.Seconds = int(l.Duration.Seconds())
	if data, err = json.Marshal(mine); err == nil {
		err = l.document.Store(ctx, data)
	}
	if errors.Is(err, ErrChanged) { // another process took it at this moment
		data, _, err = l.document.Load(ctx)
		return parseHolder(data), now, err
	}
	return mine, now, err
}

// parseHolder decodes a stored lease. One that can't be read has ended.
func parseHolder(data []byte) (h Holder) {
	if json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}
