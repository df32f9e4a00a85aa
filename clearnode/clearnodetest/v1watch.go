package clearnodetest

import "encoding/json"

// Submission is one submit_app_state that reached a NitronodeV1. What its Answer says instead of the error's text is
// "operated", "withdrawn" or "closed".
type Submission struct {
	CloseRecord
	Intent  Intent
	Version string // as sent
}

// Submissions are the state updates of a session in the order in which a NitronodeV1 took them up. Closes has those that
// were to close it, and MaxClosesInFlight counts all of them.
func (n *Node) Submissions(session string) []Submission {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Submission
	for _, s := range n.watch.submissions[session] {
		all = append(all, *s)
	}
	return all
}

// noteV1 records that the node takes up a request.
func (n *Node) noteV1(r *request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &n.watch
	w.requests[""]++
	if r.method == "" {
		return
	}
	w.requests[r.method]++
	if r.method != v1Submit {
		return
	}
	var p v1Submission
	_ = json.Unmarshal(r.signed, &p) // what can't be read is refused later
	id := r.session()
	s := &Submission{CloseRecord{Received: n.cfg.Now(), Timestamp: r.ts}, p.Update.Intent, p.Update.Version}
	r.close = &s.CloseRecord
	w.submissions[id] = append(w.submissions[id], s)
	if s.Intent == IntentClose {
		w.closes[id] = append(w.closes[id], r.close)
	}
}

func outcomeV1(r *request, err error) string {
	var p v1Submission
	switch {
	case err != nil:
		return err.Error()
	case r.close == nil || json.Unmarshal(r.signed, &p) != nil:
		return "done"
	}
	return map[Intent]string{IntentOperate: "operated", IntentWithdraw: "withdrawn", IntentClose: "closed"}[p.Update.Intent]
}
