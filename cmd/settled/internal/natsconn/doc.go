// Package natsconn connects to NATS as the configuration says, runs the embedded server,
// and says what to do about what NATS refuses.
package natsconn
