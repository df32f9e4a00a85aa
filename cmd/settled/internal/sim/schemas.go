package sim

import "embed"

// Schemas are the JSON Schemas of the control API's documents, as schema/<name>.json. `make
// docs` writes them.
//
//go:embed schema/*.json
var Schemas embed.FS
