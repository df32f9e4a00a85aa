package main

import "time"

// agenda is what is to be done and when, since the beginning of the faults.
type agenda struct {
	items []item
	now   time.Duration // when the item was due that next returned
}

type item struct {
	at time.Duration
	do func()
}

func newAgenda() *agenda { return &agenda{} }

func (a *agenda) at(at time.Duration, do func()) { a.items = append(a.items, item{at, do}) }

func (a *agenda) empty() bool { return len(a.items) == 0 }

// next takes the earliest item that is due by then; nil: none is. Of those at one
// moment the oldest comes first.
func (a *agenda) next(by time.Duration) func() {
	first := -1
	for i, it := range a.items {
		if it.at <= by && (first < 0 || it.at < a.items[first].at) {
			first = i
		}
	}
	if first < 0 {
		return nil
	}
	it := a.items[first]
	a.items = append(a.items[:first], a.items[first+1:]...)
	a.now = it.at
	return it.do
}
