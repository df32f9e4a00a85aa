package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// How often the record is updated, the allowed difference of the file's change time and the
// time in it, and the allowed age at the next start unless the ledger is known to be
// complete.
const (
	storeRecordEvery = time.Second
	storeRecordSlack = 2 * time.Second
	storeQuick       = 15 * time.Second
)

// storeRecord identifies the folder of a store and the time of its last use. A store that
// was restored from a copy has the record of another folder, of an earlier boot, or one
// whose file was changed later than its time.
type storeRecord struct {
	Device uint64    `json:"device"`
	Inode  uint64    `json:"inode"`
	Born   int64     `json:"born"` // ns since 1970; 0: not known
	Boot   string    `json:"boot_id"`
	At     time.Time `json:"at"` // when it was written, by the wall clock
}

func storeRecordPath(dir string) string { return filepath.Join(dir, "settled-store.json") }

// storeSuspicion returns why a store may have been restored since its last use; empty: nothing
// indicates it. old is true if only the age of the record does.
func storeSuspicion(dir string, now time.Time) (doubt string, old bool) {
	streams, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*"))
	if err == nil && len(streams) == 0 {
		return "", false // it is new
	}
	text, err := os.ReadFile(storeRecordPath(dir)) // #nosec G304 -- the operator names it
	if errors.Is(err, fs.ErrNotExist) {
		return "it has streams and no record of settled", false
	}
	var was storeRecord
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err != nil {
		return fmt.Sprintf("its record can't be read (%v)", err), false
	}
	is := recordOf(dir)
	changed, known := changeTime(storeRecordPath(dir))
	switch {
	case was.Device != is.Device || was.Inode != is.Inode || was.Born != is.Born:
		return "its record is of another folder", false
	case was.Boot != is.Boot:
		return "the machine was started since it was used", false
	case known && changed.Sub(was.At).Abs() > storeRecordSlack:
		return fmt.Sprintf("its record says %s, and was put there %s", was.At.UTC().Format(time.RFC3339), changed.UTC().Format(time.RFC3339)), false
	case now.Sub(was.At) > storeQuick || was.At.Sub(now) > storeRecordSlack:
		return fmt.Sprintf("it was last in use at %s", was.At.UTC().Format(time.RFC3339)), true
	}
	return "", false
}

// recordOf returns the folder's present record, without a time.
func recordOf(dir string) storeRecord {
	r := storeRecord{Boot: bootID()}
	r.Device, r.Inode, r.Born = folderOf(dir)
	return r
}

// writeStoreRecord records that the store is in use now.
func writeStoreRecord(dir string) error {
	r := recordOf(dir)
	r.At = time.Now()
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(storeRecordPath(dir), append(text, '\n'))
}
