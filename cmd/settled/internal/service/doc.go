// Package service is `settled serve`: its parts (serve.go), when it sends nothing
// (sendgate.go, sendhold.go, restoredetect.go, storewatch.go), the HTTP server with the
// dashboard (dashboard.go) and the periodic reconciliation (reconcile.go).
package service
