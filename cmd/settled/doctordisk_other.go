//go:build !linux

package main

// diskOf can't tell here.
func diskOf(string) (free uint64, kind string, known bool) { return 0, "", false }
