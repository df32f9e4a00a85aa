// Package host is what every long-running command shares: the HTTP server with its health
// and metrics, the node's connections around the work, the check of the limits' assets,
// and starting again on a new connection to NATS.
package host
