package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"settled/cmd/proof/process"
)

// sample is what settled's /metrics said at one moment.
type sample struct {
	at      time.Time
	settled uint64 // sessions, since the run began
	values  map[string]float64
}

// The metrics that are read.
const (
	heapLive   = "go_gc_heap_live_bytes"
	resident   = "process_resident_memory_bytes"
	goroutines = "go_goroutines"
	openFiles  = "process_open_fds"
	allocated  = "go_memstats_alloc_bytes_total"
	mallocs    = "go_memstats_mallocs_total"
	processor  = "process_cpu_seconds_total"
)

// What else is looked at: no metrics of settled's.
const (
	load1 = "load" // of the machine
	pace  = "pace" // of the processor: seconds that the fixed piece of work took
)

var wanted = []string{heapLive, resident, goroutines, openFiles, allocated, mallocs, processor}

// parseMetrics reads the wanted ones from Prometheus' text. The error names one that
// isn't there.
func parseMetrics(text io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err == nil {
			values[name] = number
		}
	}
	for _, name := range wanted {
		if _, there := values[name]; !there {
			return nil, fmt.Errorf("settled's metrics have no %s", name)
		}
	}
	return values, lines.Err()
}

// meter reads settled's metrics over and over.
type meter struct {
	url     string
	settled func() uint64

	mu      sync.Mutex
	samples []sample
	err     error // the last one
}

const sampleEvery = 250 * time.Millisecond

// run reads until ctx ends. It keeps its thread, whose processor time it looks at.
func (m *meter) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for process.Pause(ctx, sampleEvery) {
		s, err := m.read(ctx)
		m.mu.Lock()
		if err == nil {
			m.samples = append(m.samples, s)
		} else if ctx.Err() == nil {
			m.err = err
		}
		m.mu.Unlock()
	}
}

func (m *meter) read(ctx context.Context) (s sample, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return s, err
	}
	before := m.settled()
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, err
	}
	defer func() { _ = answer.Body.Close() }()
	s = sample{at: time.Now(), settled: (before + m.settled()) / 2}
	if s.values, err = parseMetrics(answer.Body); err == nil {
		s.values[load1], s.values[pace] = machineLoad(), fixedWork()
	}
	return s, err
}

// machineLoad is how many processes of the whole machine want a processor, over the
// last minute; 0 where the system doesn't say. Processor time is dear on a busy one.
func machineLoad() (load float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(text), &load)
	}
	return load
}

// last is the newest sample; the error says why there is none.
func (m *meter) last() (sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return sample{}, fmt.Errorf("no sample yet: %w", m.err)
	}
	return m.samples[len(m.samples)-1], nil
}

// between are the samples while so many sessions were settled.
func (m *meter) between(from, to uint64) ([]sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []sample
	for _, s := range m.samples {
		if s.settled >= from && s.settled <= to {
			all = append(all, s)
		}
	}
	if len(all) < fewestSamples {
		return nil, fmt.Errorf("only %d samples between %d and %d sessions (the last error: %v): settle more sessions", len(all), from, to, m.err)
	}
	return all, nil
}

const fewestSamples = 4
