package doctor

import "syscall"

// Kinds of file system on which a ledger doesn't last (statfs(2)).
var unsafeDisks = map[int64]string{
	0x01021994: "tmpfs, which is memory", 0x858458f6: "ramfs, which is memory",
	0x6969: "NFS, whose server answers for the sync", 0xff534d42: "CIFS, whose server answers for the sync",
}

// diskOf is how many bytes are free where a directory lies, and what kind of file
// system that is where a ledger isn't safe on it.
func diskOf(dir string) (free uint64, kind string, known bool) {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0, "", false
	}
	return s.Bavail * uint64(s.Bsize), unsafeDisks[int64(s.Type)], true // #nosec G115 -- a block's size
}
