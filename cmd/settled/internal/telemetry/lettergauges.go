package telemetry

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"settled/consumer"
	"settled/ledger/streamreader"
)

// letterGauges tell what the stream of dead letters holds. It is asked at each
// scrape; where it can't be asked in time the gauges are left out, for a stale
// number would pass for a good one.
type letterGauges struct {
	js     jetstream.JetStream
	stream string
}

// letterPatience is less than the ten seconds that a scrape may take.
const letterPatience = 2 * time.Second

var (
	deadLettersCount  = prometheus.NewDesc("settled_dead_letters", "Dead letters that wait for somebody to replay or discard them. Every replica tells the same number.", nil, nil)
	deadLettersOldest = prometheus.NewDesc("settled_dead_letters_oldest_seconds", "Age of the oldest of them; 0 where there is none.", nil, nil)
)

func (m *Metrics) watchLetters(js jetstream.JetStream, prefix string) {
	m.Registry.MustRegister(letterGauges{js: js, stream: consumer.DeadLettersStream(prefix)})
}

// Describe and Collect make it a prometheus.Collector.
func (l letterGauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- deadLettersCount
	ch <- deadLettersOldest
}

// Collect sends the gauges.
func (l letterGauges) Collect(ch chan<- prometheus.Metric) {
	if !l.js.Conn().IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), letterPatience)
	defer cancel()
	info, err := streamreader.New(l.js, l.stream).Info(ctx)
	if err != nil {
		return
	}
	state := info.State
	var age float64
	if state.Msgs > 0 {
		age = max(0, time.Since(state.FirstTime).Seconds()) // the server's clock may be ahead
	}
	ch <- prometheus.MustNewConstMetric(deadLettersCount, prometheus.GaugeValue, float64(state.Msgs))
	ch <- prometheus.MustNewConstMetric(deadLettersOldest, prometheus.GaugeValue, age)
}
