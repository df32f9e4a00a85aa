package ledger

import "embed"

// Schemas are the JSON Schemas of the ledger's entries, as schema/<name>.json. `make docs`
// writes them.
//
//go:embed schema/*.json
var Schemas embed.FS
