// Package telemetry measures and logs: every metric (metrics.go), the stages of a
// settlement (instrument.go) as spans (spans.go), and the log.
package telemetry
