package dashboard

import "embed"

// Schemas are the JSON Schemas of the API's answers, as schema/<name>.json. `make docs`
// writes them.
//
//go:embed schema/*.json
var Schemas embed.FS
