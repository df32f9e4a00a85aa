package ledger

// Seam is the stream that a ledger stands on, for tests that wrap it.
func (l *Ledger) Seam() Stream { return l.stream }

// Encode writes an entry as it is stored, for tests that tamper.
var Encode = encode

// Digest is the hash that the next entry carries.
var Digest = digest

// AppendBudget is how long an append is tried.
const AppendBudget = appendBudget

// How histories are read.
const (
	ReadersOfOne = readersOfOne
	ReadersOfAll = readersOfAll
)

// Borrowed is how many readers histories have beside their first.
func (l *Ledger) Borrowed() int { return len(l.readers) }
