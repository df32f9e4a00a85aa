package service

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// folderOf identifies a folder; born is 0 where the file system doesn't keep it.
func folderOf(dir string) (device, inode uint64, born int64) {
	var s unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &s) != nil {
		return 0, 0, 0
	}
	if s.Mask&unix.STATX_BTIME != 0 {
		born = s.Btime.Sec*int64(time.Second) + int64(s.Btime.Nsec)
	}
	return unix.Mkdev(s.Dev_major, s.Dev_minor), s.Ino, born
}

// changeTime is when the file system last changed a file: nobody can set it.
func changeTime(path string) (t time.Time, known bool) {
	var s unix.Stat_t
	if unix.Stat(path, &s) != nil {
		return t, false
	}
	return time.Unix(s.Ctim.Unix()), true
}

// BootID tells one start of the machine from the next.
func BootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
