package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStoreDoubt: what is done to the folder of a store while nothing runs.
func TestStoreDoubt(t *testing.T) {
	store := func(t *testing.T) (dir, backup string) {
		t.Helper()
		base := t.TempDir()
		dir, backup = filepath.Join(base, "store"), filepath.Join(base, "backup")
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(os.MkdirAll(filepath.Join(dir, "jetstream", "$G", "streams", "SETTLEMENTS"), 0o700))
		must(os.WriteFile(filepath.Join(dir, "jetstream", "$G", "streams", "SETTLEMENTS", "1.blk"), []byte("entries"), 0o600))
		must(writeStoreRecord(dir))
		must(os.CopyFS(backup, os.DirFS(dir)))
		return dir, backup
	}
	// earlier changes the time that a record says.
	earlier := func(t *testing.T, dir string, by time.Duration) {
		t.Helper()
		var r storeRecord
		text, err := os.ReadFile(storeRecordPath(dir))
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		r.At = r.At.Add(-by)
		if err == nil {
			text, err = json.Marshal(r)
		}
		if err == nil {
			err = os.WriteFile(storeRecordPath(dir), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir, backup string) error
		later  time.Duration // of the next start
		want   string        // in the doubt; empty: none
		old    bool
	}{
		"untouched": {change: func(*testing.T, string, string) error { return nil }},
		"read for copy": {change: func(_ *testing.T, dir, _ string) error {
			return os.CopyFS(filepath.Join(filepath.Dir(dir), "again"), os.DirFS(dir))
		}},
		"a new store":  {change: func(_ *testing.T, dir, _ string) error { return os.RemoveAll(filepath.Join(dir, "jetstream")) }},
		"no record":    {change: func(_ *testing.T, dir, _ string) error { return os.Remove(storeRecordPath(dir)) }, want: "no record"},
		"a broken one": {change: func(_ *testing.T, dir, _ string) error { return os.WriteFile(storeRecordPath(dir), nil, 0o600) }, want: "can't be read"},
		"renamed in its place": {change: func(_ *testing.T, dir, backup string) error {
			if err := os.Rename(dir, dir+".bad"); err != nil {
				return err
			}
			return os.Rename(backup, dir)
		}, want: "another folder"},
		"deleted and copied": {change: func(_ *testing.T, dir, backup string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.CopyFS(dir, os.DirFS(backup))
		}, want: "another folder"},
		"files copied over it": {change: func(t *testing.T, dir, backup string) error {
			earlier(t, backup, time.Minute) // the copy is a minute old
			text, err := os.ReadFile(storeRecordPath(backup))
			if err != nil {
				return err
			}
			return os.WriteFile(storeRecordPath(dir), text, 0o600)
		}, want: "was put there"},
		"long ago":            {change: func(*testing.T, string, string) error { return nil }, later: time.Hour, want: "last in use", old: true},
		"the clock went back": {change: func(*testing.T, string, string) error { return nil }, later: -time.Hour, want: "last in use", old: true},
		"another boot": {change: func(t *testing.T, dir, _ string) error {
			text, err := os.ReadFile(storeRecordPath(dir))
			if err != nil {
				return err
			}
			return os.WriteFile(storeRecordPath(dir), []byte(strings.Replace(string(text), bootID(), "another", 1)), 0o600)
		}, want: "machine was started"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, backup := store(t)
			if err := c.change(t, dir, backup); err != nil {
				t.Fatal(err)
			}
			doubt, old := storeSuspicion(dir, time.Now().Add(c.later))
			if (doubt != "") != (c.want != "") || !strings.Contains(doubt, c.want) || old != c.old {
				t.Errorf("%q (old %t), want %q (old %t)", doubt, old, c.want, c.old)
			}
		})
	}
}
