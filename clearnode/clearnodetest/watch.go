package clearnodetest

import "time"

// CloseRecord is one request to close a session that reached the node.
type CloseRecord struct {
	Received  time.Time // when it was taken off its connection's queue, on the node's clock
	Timestamp uint64    // the request's own, in ms
	Answer    string    // "closed" or the error's text; empty: not answered yet, or never, since the node stopped meanwhile
	Committed bool      // it moved the money, whatever was answered
}

// watch counts what was asked.
type watch struct {
	requests    map[string]int
	closes      map[string][]*CloseRecord
	submissions map[string][]*Submission
	inFlight    map[string]int
	most        int
	crowded     string // the session of most
}

func newWatch() watch {
	return watch{
		requests: map[string]int{}, closes: map[string][]*CloseRecord{}, submissions: map[string][]*Submission{},
		inFlight: map[string]int{},
	}
}

// Requests is the number of frames of a method that the node took up, refused ones included; "" counts all, unreadable ones
// too. Requests that a fault lost or still holds on the wire don't count.
func (n *Node) Requests(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watch.requests[method]
}

// Closes are the closes of a session in the order in which the node took them up.
func (n *Node) Closes(session string) []CloseRecord {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []CloseRecord
	for _, c := range n.watch.closes[session] {
		all = append(all, *c)
	}
	return all
}

// MaxClosesInFlight is the largest number of closes of one session that were ever at work at once: from when they were let
// in, which is when their age is looked at, to their commit or refusal. One that comes too late is at work never. With a
// NitronodeV1 every state update counts.
func (n *Node) MaxClosesInFlight() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watch.most
}

// Crowded is the session that MaxClosesInFlight is of; empty where no close was ever at work.
func (n *Node) Crowded() (session string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watch.crowded
}

// atWork counts a request that is let in, if it is to close a session, until the returned function is called.
func (n *Node) atWork(r *request) (ended func()) {
	if r.close == nil {
		return func() {}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w, id := &n.watch, r.session()
	if w.inFlight[id]++; w.inFlight[id] > w.most {
		w.most, w.crowded = w.inFlight[id], id
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if w.inFlight[id]--; w.inFlight[id] == 0 {
			delete(w.inFlight, id)
		}
	}
}

// note records that the node takes up a request.
func (n *Node) note(r *request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &n.watch
	w.requests[""]++
	if r.method == "" {
		return
	}
	w.requests[r.method]++
	if r.method != "close_app_session" {
		return
	}
	id := r.session()
	r.close = &CloseRecord{Received: n.cfg.Now(), Timestamp: r.ts}
	w.closes[id] = append(w.closes[id], r.close)
}

// settled records how a close ended. The empty answer is none.
func (n *Node) settled(r *request, answer string) {
	if r.close == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r.close.Answer = answer
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "closed"
}
