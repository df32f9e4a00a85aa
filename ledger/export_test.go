package ledger

// Seam is the stream that a ledger stands on, for tests that wrap it.
func (l *Ledger) Seam() Stream { return l.stream }

// Encode writes an entry as it is stored, for tests that tamper.
var Encode = encode

// AppendBudget is how long an append is tried.
const AppendBudget = appendBudget
