package service

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// folderOf identifies a folder; born is 0 if the file system doesn't record it.
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

// changeTime returns the change time of a file, which programs can't set.
func changeTime(path string) (t time.Time, known bool) {
	var s unix.Stat_t
	if unix.Stat(path, &s) != nil {
		return t, false
	}
	return time.Unix(s.Ctim.Unix()), true
}

// bootID identifies the boot of the machine.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
