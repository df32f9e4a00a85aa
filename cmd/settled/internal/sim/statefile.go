package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const stateFormat = "settled sim state 1"

// stateHeader is the first line of a state file. The node's state follows it.
type stateHeader struct {
	Format   string        `json:"format"`
	Protocol string        `json:"protocol"`
	Ahead    time.Duration `json:"clock_ahead_ns"` // of the node's clock
	SHA256   string        `json:"sha256"`         // of the node's state
}

// stateFile is a state file that this process has locked.
type stateFile struct {
	path string
	lock *os.File
}

// openStateFile locks a state file and reads it. It returns no state if there is no file yet.
func openStateFile(path, protocol string) (f *stateFile, ahead time.Duration, state []byte, err error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, 0, nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	f = &stateFile{path, lock}
	text, err := os.ReadFile(path) // #nosec G304 -- the user names the file
	if errors.Is(err, fs.ErrNotExist) {
		return f, 0, nil, nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	var h stateHeader
	first, state, _ := bytes.Cut(text, []byte("\n"))
	switch {
	case json.Unmarshal(first, &h) != nil || h.Format != stateFormat:
		return nil, 0, nil, fmt.Errorf("%s is not a state file of this version of settled sim: name another file, or remove it to start with an empty node", path)
	case digestOf(state) != h.SHA256:
		return nil, 0, nil, fmt.Errorf("%s is damaged: its state does not have the digest that its first line says. Restore a copy, or remove it to start with an empty node", path)
	case h.Protocol != protocol:
		return nil, 0, nil, fmt.Errorf("%s is the state of a node of %s: start with --protocol %s, or name another file", path, h.Protocol, h.Protocol)
	}
	return f, h.Ahead, state, nil
}

func digestOf(state []byte) string {
	digest := sha256.Sum256(state)
	return hex.EncodeToString(digest[:])
}

// write replaces the file. A reader finds the old state or the new one.
func (f *stateFile) write(protocol string, ahead time.Duration, state []byte) error {
	header, err := json.Marshal(stateHeader{stateFormat, protocol, ahead, digestOf(state)})
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(append(header, '\n'), state...))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
