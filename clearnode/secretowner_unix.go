//go:build unix

package clearnode

import (
	"os"
	"syscall"
)

// ownerOf is the user that owns a file.
func ownerOf(info os.FileInfo) (uint32, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}
