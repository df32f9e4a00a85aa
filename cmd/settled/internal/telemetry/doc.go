// Package telemetry measures and logs: every metric (metrics.go and beside it), the stages
// of a settlement as spans (stages.go, spans.go), and the log.
package telemetry
