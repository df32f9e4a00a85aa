// Package doctor examines the configuration, NATS and the node for what would keep settled
// from settling, and says what to change.
package doctor
