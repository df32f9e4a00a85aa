// Package dashboard serves a web page that shows a running settled, and the JSON API
// and event stream behind it.
//
// It follows the ledger on a connection of its own and keeps in memory what the page
// requests most: the newest entries, counters of the last day, the sessions that are
// being closed, and a search index. Older entries are read from the ledger on request.
// Entries are decoded only while somebody watches (watched.go); the first request after a
// pause waits for those since. Foreign messages are looked for all the time.
// It takes no part in settling, and what it shows may be a few seconds old.
//
// Invariants, each held by a test:
//
//  1. It cannot slow settlement down: outcomes are settled as before while the
//     dashboard hangs or has no connection to NATS.
//  2. Its memory is bounded, whatever is published: entries, counters, scenario names,
//     sessions, the index, clients and responses each have a limit. A response that
//     reached its limit says so.
//  3. Changes require the token and are refused to pages of other sites; without a
//     configured token they are refused to everybody. Reading requires no token:
//     whoever reaches http.listen can read. On a loopback address, requests with
//     another host's name are refused, which stops DNS rebinding.
//  4. The browser loads and runs only the dashboard's own files, and text from
//     publishers is inserted as text, never as markup.
//  5. Amounts stay decimal strings from the ledger to the screen. Only the length of
//     a bar is computed from a rounded number.
//
// It trusts the ledger for what happened and NATS for dead letters and operations, but
// not the content of any of them.
package dashboard
