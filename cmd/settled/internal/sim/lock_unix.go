//go:build unix

package sim

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile opens a file that no other process has locked. The lock ends with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- the user names the file
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another settled sim uses it (%s is locked): stop that process, or name another file", path)
		}
		return nil, err
	}
	return f, nil
}
