//go:build !linux

package service

import "time"

// folderOf, changeTime and bootID know nothing here: only the record's age speaks.
func folderOf(string) (device, inode uint64, born int64) { return 0, 0, 0 }

func changeTime(string) (t time.Time, known bool) { return t, false }

func bootID() string { return "" }
