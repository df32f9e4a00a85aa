//go:build !unix

package sim

import "os"

// lockFile locks nothing on this system.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- the user names the file
}
