// Package record keeps what long runs came to, as JSON in runs/, and writes
// settlement/RELIABILITY.md out of it. The runs are written by the programs and
// tests that made them; nothing in the document but its sentences is written by hand.
//
//  1. The document is what is generated from the runs and from bugs.json: a test
//     compares them.
//  2. A bug's test exists: a test looks for it in the sources.
//  3. A run that failed is told as one.
//
// It trusts the runs that are committed.
package record
