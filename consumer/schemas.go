package consumer

import "embed"

// Schemas are the JSON Schemas of outcomes, dead letters and records of operations, as
// schema/<name>.json. `make docs` writes them.
//
//go:embed schema/*.json
var Schemas embed.FS
