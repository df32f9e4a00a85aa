// Package service is `settled serve` while it runs: what it connects (serve.go), when it
// sends nothing (sendgate.go, sendhold.go, setback.go, storewatch.go), the dashboard's
// place (board.go) and the comparison on a timer (reconciletimer.go).
package service
