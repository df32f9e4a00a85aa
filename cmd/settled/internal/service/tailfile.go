package service

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/ledger"
)

// StateDirNone as nats.state_dir disables remembering.
const StateDirNone = "none"

// stateDir returns the folder of what is remembered outside NATS; empty: none.
func stateDir(configured string) string {
	if configured == StateDirNone {
		return ""
	}
	if configured != "" {
		return configured
	}
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 { // of systemd
		return dirs[0]
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "settled")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "settled")
}

// tailFiles is ledger.Tail in files, one for each stream in each of its folders.
type tailFiles struct {
	dirs []string // the first is outside the store; an empty one is none
	log  zerolog.Logger

	mu      sync.Mutex
	written map[string]ledger.TailEntry // by path
	failed  map[string]bool             // by path: told that it can't be written
	outside bool                        // the first folder remembered the stream
}

var _ ledger.Tail = (*tailFiles)(nil)

func newTailFiles(log zerolog.Logger, dirs ...string) *tailFiles {
	return &tailFiles{dirs: dirs, log: log, written: map[string]ledger.TailEntry{}, failed: map[string]bool{}}
}

func tailPath(dir, stream string, created time.Time) string {
	return filepath.Join(dir, fmt.Sprintf("ledger-%s-%d.json", stream, created.UnixNano()))
}

// Recall implements ledger.Tail. Of several folders the latest entry counts.
func (t *tailFiles) Recall(stream string, created time.Time) (e ledger.TailEntry, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, dir := range t.dirs {
		if dir == "" {
			continue
		}
		found, err := readTail(tailPath(dir, stream, created))
		if err != nil {
			continue
		}
		t.outside = t.outside || i == 0
		if !ok || found.Sequence > e.Sequence {
			e, ok = found, true
		}
	}
	return e, ok
}

func readTail(path string) (e ledger.TailEntry, err error) {
	text, err := os.ReadFile(path) // #nosec G304 -- a folder of ours
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(text, &e)
}

// Keep implements ledger.Tail. It doesn't sync to disk: after a crash of the machine the
// entry may be older.
func (t *tailFiles) Keep(stream string, created time.Time, e ledger.TailEntry, again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, dir := range t.dirs {
		if dir == "" {
			continue
		}
		path := tailPath(dir, stream, created)
		if was, ok := t.written[path]; ok && was == e {
			continue
		}
		if was, err := readTail(path); err == nil && was.Sequence > e.Sequence && !again {
			continue // written by another process
		}
		if err := writeTail(dir, path, e); err != nil {
			if !t.failed[path] {
				t.log.Warn().Err(err).Msg("the last ledger entry can't be remembered (nats.state_dir): a ledger that is restored from an older copy while settled is stopped may not be noticed")
			}
			t.failed[path] = true
			continue
		}
		if t.failed[path] {
			t.log.Info().Str("file", path).Msg("the last ledger entry is remembered again")
		}
		delete(t.failed, path)
		t.written[path] = e
	}
}

func writeTail(dir, path string, e ledger.TailEntry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return replaceFile(path, text)
}

// replaceFile writes a file so that a reader finds the old content or the new.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// provenOutside reports whether a folder outside the store remembered the stream.
func (t *tailFiles) provenOutside() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outside
}
