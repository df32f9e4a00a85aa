// Package deploy holds what a deployment is made of, and the one part of it that the
// program reads: the runbook, whose advice `settled deadletter show` gives.
package deploy

import _ "embed"

// Runbook is RUNBOOK.md. Each error code has a section with what it means, what to
// look at and what to do.
//
//go:embed RUNBOOK.md
var Runbook string
