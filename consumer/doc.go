// Package consumer takes outcome messages from JetStream and answers each with
// exactly one acknowledgement; it keeps dead letters.
//
// It reads messages (ReadEnvelope), has them settled (Settler), and turns what
// came of it into an answer (Decide). It settles nothing, knows neither the node
// nor the ledger, and never retries: the broker owns the retries. It also knows
// what the streams it works on must look like (EnsureStreams), and refuses those
// that could lose an outcome.
//
// Invariants, each held by a test:
//
//  1. A message is acknowledged only with a closed entry in hand, and terminated
//     only where Settle answered that its failure is stored. Every other end of a
//     Settle call, a panic included, gives the message back.
//  2. Every message taken gets one answer, and none after that; until then the
//     server is told every third of the ack wait that it is being worked on.
//  3. An answer goes only to the consumer that delivered the message. Where the
//     stream or the durable was deleted and made anew in the meantime, it is
//     withheld: acknowledgements name stream sequences, and those of a new stream
//     belong to other outcomes.
//  4. No message can hide: one that looks like a control message of the protocol
//     (an empty payload and a Status header) is an outcome like any other, and
//     any bytes at all come out of ReadEnvelope as an Envelope, never as a panic.
//  5. A dead letter holds what is needed to publish its message again, whatever
//     was in it, and the message's own headers can neither steer the server nor
//     pass for what this package adds.
//  6. A stop finishes what is in hand and gives back what is not begun, within 11
//     seconds from the end of the context, also where NATS is connected but
//     silent. The service promises 15: what is left is for its connections.
//  7. A stream of outcomes that is made in place of a lost one begins beyond every
//     sequence that the ledger can name: by them settlement tells a redelivery
//     from a replay, and an outcome under a used one could pass for another.
//  8. One outcome of a session is settled at a time, in the order of arrival; the
//     others wait without a worker, a bounded number of them, and the rest is given
//     back. However many messages name one session, and whether it gets on or not,
//     other sessions' outcomes go on being taken and settled.
//  9. What the server stops delivering because another client terminated it, or
//     because of a MaxDeliver that somebody set, is settled all the same where one
//     of us hears of it.
//
// # Stopping everybody
//
// EmergencyStop knows from the stream of operations whether all sending is stopped; what it
// doesn't know counts as stopped. It is asked by settlement, not here: messages are
// taken and read all the same, and given back.
//
// # Pausing
//
// While Config.Ready returns an error nothing is fetched. Ready is asked when a
// channel of Config.Changed is closed, and once a second besides. On the first
// error the open request is withdrawn from the server and what was fetched but
// not begun is given back with a short delay; what is in hand goes on, and ends
// as waiting by its own reads. On the first nil after that fetching begins again.
//
// # Whom it trusts
//
// It trusts NATS to keep what it confirmed, and to deliver at least once: not to
// deliver once, nor in order, nor to keep acknowledgements over a crash. It
// trusts the Settler to have stored what it says is stored. It trusts no
// publisher: whoever may publish outcomes can make this package neither stop,
// nor skip a message, nor answer another's. Who may write to $JS.API or to its
// inbox can.
package consumer
