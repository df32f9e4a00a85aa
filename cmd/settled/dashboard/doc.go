// Package dashboard shows a running settled to people: a page in the browser, and
// the JSON and the events that it is made of.
//
// It follows the ledger by a connection and an ordered consumer of its own, and
// keeps what the page asks for most in memory: the newest entries, counters of the
// last day, the sessions being closed, and an index of references. What is older is
// read from the ledger's leader when somebody asks. It decides nothing about money,
// and what it shows may be a moment old.
//
// Invariants, each held by a test:
//
//  1. It is not in the money path: where it stands still, or NATS is away from it,
//     outcomes are settled as before.
//  2. Its memory is bounded, whatever is published: entries, minutes, names of
//     scenarios, sessions, index, clients and answers each have a limit, and where
//     one is reached the answer says so.
//  3. Nothing is changed without the token, nor by another site's page; without a
//     configured token nothing can be changed at all. Reading needs none: who may
//     reach http.listen may read. Where that is loopback only, a foreign host name
//     is refused, so that no web page can read by rebinding its name.
//  4. A page is refused by the browser to run or to load anything but its own
//     files, and what publishers wrote reaches it as text, never as markup.
//  5. Amounts are decimal strings from the ledger to the screen. Only the length of
//     a bar is computed from a rounded one.
//
// It trusts the ledger for what happened and NATS for dead letters and operations;
// it trusts no content of them.
package dashboard
