package main

import (
	"fmt"
	"sync"
	"time"

	"settled/cmd/proof/process"
)

// started starts a process again and notes where that fails.
func (r *run) started(p *process.Process) { r.noted(p.Start()) }

// noted keeps an error of the runner's own that doesn't decide the verdict.
func (r *run) noted(err error) {
	if err != nil {
		r.notes = append(r.notes, err.Error())
	}
}

func (r *run) disagree(law, format string, args ...any) {
	r.wrong.Found(law, format, args...)
}

// supervise starts what ended without being told to, as systemd or Kubernetes would.
func (r *run) supervise() {
	for _, p := range r.processes() {
		if before := r.noticed[p]; len(p.Surprises()) > before {
			r.noticed[p] = len(p.Surprises())
			r.say.event("%s ended by itself: %s", p.Name, p.Surprises()[before])
			r.started(p)
		}
	}
}

func (r *run) processes() []*process.Process {
	var all []*process.Process
	for _, p := range r.replicas {
		all = append(all, p.Process)
	}
	return append(all, r.cluster.servers[:]...)
}

func (r *run) progress() {
	s := r.watch.glance(r.ctx)
	faults := 0
	for _, n := range r.struck {
		faults += n
	}
	r.say.progress("%4.0f s  %3d faults  %5d published  %5d entries  %4d unanswered",
		time.Since(r.began).Seconds(), faults, r.load.published(), s.Entries, s.Unanswered+int(s.Pending))
}

// teller prints a line a second at most: what happened since the last one, and how
// far everything is.
type teller struct {
	mu     sync.Mutex
	print  func(string)
	events []string
	quiet  int // lines of progress that were left out, since nothing happened
}

func (t *teller) event(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, fmt.Sprintf(format, args...))
}

// progress prints at least every fifth time it is called.
func (t *teller) progress(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == 0 && t.quiet < 4 {
		t.quiet++
		return
	}
	line := fmt.Sprintf(format, args...)
	for i, e := range t.events {
		line += []string{"  | ", "; "}[min(i, 1)] + e
	}
	t.print(line)
	t.events, t.quiet = nil, 0
}
