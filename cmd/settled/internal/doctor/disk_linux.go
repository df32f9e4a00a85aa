package doctor

import "syscall"

// File systems on which a ledger isn't durable (statfs(2)).
var unsafeDisks = map[int64]string{
	0x01021994: "tmpfs, which is memory", 0x858458f6: "ramfs, which is memory",
	0x6969: "NFS: only its server knows whether a sync reached the disk", 0xff534d42: "CIFS: only its server knows whether a sync reached the disk",
}

// diskOf returns the free bytes of a directory's file system, and its kind if a ledger isn't
// safe on it.
func diskOf(dir string) (free uint64, kind string, known bool) {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0, "", false
	}
	return s.Bavail * uint64(s.Bsize), unsafeDisks[int64(s.Type)], true // #nosec G115 -- a block's size
}
