//go:build race

package simulate

// The race detector makes a schedule some ten times slower, and one runs nothing at
// once with anything else.
func init() { raced = true }
