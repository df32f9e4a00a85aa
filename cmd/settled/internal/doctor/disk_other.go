//go:build !linux

package doctor

// diskOf is not implemented.
func diskOf(string) (free uint64, kind string, known bool) { return 0, "", false }
