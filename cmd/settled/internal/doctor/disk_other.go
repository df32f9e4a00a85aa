//go:build !linux

package doctor

// diskOf can't tell here.
func diskOf(string) (free uint64, kind string, known bool) { return 0, "", false }
