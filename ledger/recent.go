package ledger

import (
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Recent keeps the last messages that Ledgers of this process stored, so that another part
// of the process that follows the stream need not read them. The zero value is ready. It
// may be used concurrently.
type Recent struct {
	mu   sync.Mutex
	ring [keptRecent]Message // by sequence; an older one is overwritten
}

// keptRecent is enough for the entries of one second.
const keptRecent = 2048

func (r *Recent) add(m Message) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[m.Sequence%keptRecent] = m
}

// get returns the message that was stored at a sequence; nil if it is not kept. Its time is
// not known. Who needs to know whether the stream still has it must read the stream.
func (r *Recent) get(sequence uint64) *jetstream.RawStreamMsg {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.ring[sequence%keptRecent]
	if m.Sequence != sequence || sequence == 0 {
		return nil
	}
	return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Data: m.Payload}
}
