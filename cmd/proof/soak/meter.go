package main

import (
	"bufio"
	"context"
	"encoding/json"
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

// sample is one reading of settled's /metrics.
type sample struct {
	at      time.Time
	settled uint64 // sessions, since the run began
	values  map[string]float64
}

// The metrics of settled that are read.
const (
	heapLive   = "go_gc_heap_live_bytes"
	resident   = "process_resident_memory_bytes"
	goroutines = "go_goroutines"
	openFiles  = "process_open_fds"
	allocated  = "go_memstats_alloc_bytes_total"
	mallocs    = "go_memstats_mallocs_total"
	processor  = "process_cpu_seconds_total"
)

// The values that are measured here.
const (
	machineLoad   = "load" // of the whole machine over the last minute; 0 where the system doesn't tell
	referenceTime = "pace" // processor time of the reference work, in seconds
)

var settledMetrics = []string{heapLive, resident, goroutines, openFiles, allocated, mallocs, processor}

// parseMetrics parses Prometheus' text format. It fails if a wanted metric is missing.
func parseMetrics(text io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = number
		}
	}
	for _, name := range settledMetrics {
		if _, exists := values[name]; !exists {
			return nil, fmt.Errorf("settled's metrics have no %s", name)
		}
	}
	return values, lines.Err()
}

// meter samples settled's metrics.
type meter struct {
	url     string
	settled func() uint64

	mu      sync.Mutex
	samples []sample
	err     error // the last one
}

const sampleInterval = 250 * time.Millisecond

// run samples until ctx ends. It keeps its thread, because it measures the processor
// time of the thread.
func (m *meter) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for process.Sleep(ctx, sampleInterval) {
		s, err := m.sample(ctx)
		m.mu.Lock()
		if err == nil {
			m.samples = append(m.samples, s)
		} else if ctx.Err() == nil {
			m.err = err
		}
		m.mu.Unlock()
	}
}

func (m *meter) sample(ctx context.Context) (s sample, err error) {
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
	if s.values, err = parseMetrics(answer.Body); err != nil {
		return s, err
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load := 0.0
		_, _ = fmt.Sscan(string(text), &load)
		s.values[machineLoad] = load
	}
	s.values[referenceTime] = doReferenceWork()
	return s, nil
}

// referenceInput resembles what settled reads.
var referenceInput = []byte("[" + strings.Repeat(`{"participant":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","asset":"usdc","amount":"6.666667"},`, 1500) + "{}]")

// doReferenceWork returns the processor time, in seconds, that a fixed piece of work
// of about a millisecond takes now. A second of processor time does less work while
// others use the same core, on this machine or on the host of a virtual one. It
// returns 0 where the system doesn't tell. The caller must keep its thread.
func doReferenceWork() float64 {
	began := threadTime()
	json.Valid(referenceInput)
	return threadTime() - began
}

// latest describes the newest sample for the log.
func (m *meter) latest() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return ""
	}
	v := m.samples[len(m.samples)-1].values
	return fmt.Sprintf("; settled: %.1f MiB live, %.1f MiB resident, %.0f goroutines, %.0f files", v[heapLive]/(1<<20), v[resident]/(1<<20), v[goroutines], v[openFiles])
}

const minSamples = 4

// between returns the samples taken while so many sessions were settled. It fails if
// there are too few to measure.
func (m *meter) between(from, to uint64) ([]sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var selected []sample
	for _, s := range m.samples {
		if s.settled >= from && s.settled <= to {
			selected = append(selected, s)
		}
	}
	if len(selected) < minSamples {
		return nil, fmt.Errorf("only %d samples between %d and %d sessions (the last error: %v): settle more sessions", len(selected), from, to, m.err)
	}
	return selected, nil
}
