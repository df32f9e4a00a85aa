// Package consumer receives outcome messages from JetStream, has their outcomes settled,
// and answers each message exactly once. OUTCOMES.md describes the format of an outcome
// event and the way of a message from the stream to its answer.
//
// A Consumer settles nothing itself: a Settler does, and Decide derives the answer from its
// result. It knows neither the node nor the ledger, and never retries: the server delivers
// again what was returned. EnsureStreams creates the streams that it works on, and
// refuses settings that could lose an outcome; SettingsMonitor verifies them from then on.
//
// The sub-packages are cloudevent, which reads the event in a message; operations, the
// records of what operators did, with the emergency stop; and deadletter, the messages of
// outcomes that failed.
//
// # Invariants
//
// Each is verified by a test.
//
//  1. A message is acknowledged only for a closed entry, and terminated only if Settle
//     returned a failure, which is stored. After every other end of a Settle call, a panic
//     included, the message is returned.
//  2. Every message is answered once, and nothing follows the answer. Until then the
//     consumer tells the server at every third of the ack wait that it is in progress.
//  3. An answer goes only to the durable consumer that delivered the message. If the stream
//     or the durable was created again in the meantime, the answer is withheld:
//     acknowledgements name stream sequences, and those of a new stream belong to other
//     outcomes.
//  4. Every message is processed: one that looks like a control message of the protocol (an
//     empty payload and a Status header) is an outcome like any other, and cloudevent.Read
//     returns an Envelope for any bytes, and never panics.
//  5. A dead letter contains what is needed to publish its message again, whatever is in
//     it. The message's own headers can neither instruct the server nor pass for those that
//     a dead letter adds.
//  6. A stop finishes what is in progress and returns messages that are not started, within
//     11 seconds from the end of the context, also if NATS is connected but does not answer.
//     The service promises 15: the rest is for closing its connections.
//  7. A stream of outcomes that is created in place of a lost one begins beyond every
//     sequence that the ledger can name. Settlement tells a redelivery from a replay by the
//     sequence, and a reused one could alias another outcome.
//  8. One outcome of a session is settled at a time, in the order of arrival. The others
//     wait without a worker, up to a limit, and beyond it they are returned. However many
//     messages name one session, the outcomes of other sessions are fetched and settled.
//  9. A message that the server no longer delivers, because another client terminated it or
//     because of a MaxDeliver, is settled like any other, or published again, if a replica
//     receives the server's advisory.
//
// # Pausing
//
// While Config.Ready returns an error nothing is fetched. Ready is called when a channel of
// Config.Changed is closed, and once a second. On the first error the open request is
// withdrawn, and messages that were received but not started are returned with a short
// delay; those in progress continue, and end by their own reads. On the first nil after
// that, fetching resumes. An emergency stop does not pause fetching: Settle returns an
// error, and the messages are returned.
//
// # Trust
//
// The package trusts NATS to keep what it confirmed and to deliver at least once; not to
// deliver once, or in order, or to keep acknowledgements over a crash. It trusts the
// Settler to have stored what it says is stored. It trusts no publisher: whoever may
// publish outcomes can neither stop this package, nor make it skip a message or answer
// another one. Whoever may write to $JS.API or to its inbox can.
package consumer
