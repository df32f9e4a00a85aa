// Package doctor examines the configuration, NATS and the node for problems that prevent
// settling, and says what to change.
package doctor
