// Package host has what all long-running commands share: the HTTP server with its health
// and metrics, the node's connections around the work, the check of the limits' assets,
// and the restart on a new connection to NATS.
package host
