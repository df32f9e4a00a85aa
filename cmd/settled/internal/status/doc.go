// Package status tells what became of an outcome. It reads what NATS has stored, so that it
// needs neither the node nor the service; a running replica adds why an outcome waits that
// it returned to the stream.
package status
