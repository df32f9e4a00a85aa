package clearnode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxSecretFile is more than a key, a keystore, a password or a token needs.
const maxSecretFile = 16 << 10

// CheckSecretMode refuses the file of a secret that others than its owner can use, and says
// what to run. Its group may read it where root owns it and this process is not root, as
// libpq has it: a Kubernetes Secret that is mounted with fsGroup is such a file, and its mode
// can't be changed. root itself may use such a file where nobody can write it (0440).
func CheckSecretMode(path string, info os.FileInfo) error {
	owner, known := ownerOf(info)
	return secretMode(path, info.Mode().Perm(), known && owner == 0, os.Geteuid() == 0)
}

// secretMode judges a mode. roots: root owns the file; asRoot: this process is root.
func secretMode(path string, mode os.FileMode, roots, asRoot bool) error {
	switch {
	case mode&0o077 == 0 || roots && (mode == 0o440 || !asRoot && mode&0o037 == 0):
		return nil
	case roots && !asRoot:
		return fmt.Errorf("%s: others may use it (mode %04o, owner root): have root run chmod 600 %s, or 440 where settled reads it by its group; in Kubernetes set the volume's defaultMode to 0440", path, mode, path)
	}
	return fmt.Errorf("%s: its group or others may use it (mode %04o): run chmod 600 %s", path, mode, path)
}

// CheckSecretFile is CheckSecretMode for the file at a path, behind symbolic links or not.
func CheckSecretFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	return CheckSecretMode(path, info)
}

// ReadSecretFile reads a secret of at most 16 KiB without the UTF-8 byte order mark that
// some editors write. It refuses a file that others can use, one that is not regular, and
// text in UTF-16. what names the secret in errors, which never hold any of its text.
func ReadSecretFile(what, path string) ([]byte, error) {
	return readSecretFile(what, path, CheckSecretMode)
}

// ReadOwnSecretFile is ReadSecretFile for a file in a directory that others can write to: it
// also refuses a symbolic link, and one that another user owns, whoever may read it.
func ReadOwnSecretFile(what, path string) ([]byte, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s %s: not a regular file", what, path), err)
	}
	return readSecretFile(what, path, func(path string, info os.FileInfo) error {
		if owner, known := ownerOf(info); known && int(owner) != os.Geteuid() {
			return fmt.Errorf("%s: user %d owns it, and this process is user %d", path, owner, os.Geteuid())
		}
		return CheckSecretMode(path, info)
	})
}

// readSecretFile reads a secret whose file passes a check.
func readSecretFile(what, path string, check func(string, os.FileInfo) error) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // opening a pipe would block
		return nil, fmt.Errorf("%s %s: not a regular file", what, path)
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %s: not a regular file", what, path)
	}
	if err := check(path, info); err != nil {
		return nil, fmt.Errorf("%s %w", what, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(text) > maxSecretFile {
		return nil, fmt.Errorf("%s %s: longer than %d bytes: is it the right file?", what, path, maxSecretFile)
	}
	if text, err = plainText(text); err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	return text, nil
}

// plainText removes a UTF-8 byte order mark and refuses UTF-16, with a mark or without.
func plainText(text []byte) ([]byte, error) {
	utf16 := bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) || bytes.IndexByte(text, 0) >= 0
	if utf16 {
		return nil, errors.New("it is not UTF-8: it holds UTF-16 (as PowerShell's > writes it) or binary data; save it as UTF-8")
	}
	return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), nil
}
