package main

import (
	"fmt"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// A nitronode settles in two writes. kill -9 between them, of a process that never
// heard what became of the first, a hundred times: whoever comes next finds each
// nodeSession half done, finishes it as planned, and records no second attempt.
func TestKilledBetweenOperateAndClose(t *testing.T) {
	t.Parallel()
	const kills, each = 20, 5
	d := deployOn(t, clearnodetest.Config{Protocol: clearnodetest.NitronodeV1, RateLimit: -1})
	p := d.serveProcess("v1")
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	d.until("there is a stream of outcomes", func() bool { _, err := d.nats.JS.Stream(t.Context(), "OUTCOMES"); return err == nil })
	sequences := map[settlement.SessionID]uint64{}
	for kill := range kills {
		var halfway []settlement.SessionID
		for i := range each {
			session := d.open()
			d.node.Inject(clearnodetest.Fault{Method: "app_sessions.v1.submit_app_state", Session: string(session), Kind: clearnodetest.LoseAnswer})
			sequences[session] = d.publish("partial_service", fmt.Sprint(kill, "-", i), session, d.partial())
			halfway = append(halfway, session)
		}
		for _, session := range halfway {
			d.until("the allocation is updated", func() bool {
				all := d.node.Submissions(string(session))
				return len(all) > 0 && all[0].Answer == "operated"
			})
		}
		d.must(p.Process.Kill())
		_ = p.Wait()
		for _, session := range halfway {
			if s, _ := d.node.Session(string(session)); s.Status != "open" {
				t.Errorf("session %s is %s: it was not killed halfway", session, s.Status)
			}
		}
		p = d.serveProcess("v1")
	}
	for session, sequence := range sequences {
		e := d.result(session, sequence)
		if e.State != settlement.EntryClosed || e.Attempt != 1 {
			t.Errorf("session %s: %s in attempt %d: %+v", session, e.State, e.Attempt, e.Error)
		}
		if got := len(d.entries(session)); got != 2 {
			t.Errorf("session %s has %d entries, want its intent and its result", session, got)
		}
	}
	if letters := d.letters(); len(letters) != 0 {
		t.Errorf("%d dead letters: %+v", len(letters), letters[0])
	}
	d.verifyPaid(len(sequences))
}
