// Package audit compares the ledger with the outcomes and with the node (reconcile.go), and
// writes its entries as files for other programs (exportfile.go).
package audit
