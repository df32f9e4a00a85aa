package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ExportFile is the destination of an export. Rows are written in whole entries; after a
// crash only the last line and the rows of the last entry may be incomplete.
type ExportFile struct {
	w       io.Writer
	file    *os.File // nil: the standard output
	format  exportFormat
	pending bytes.Buffer

	From uint64 // the entry to begin with; 0: the first
	tail []byte // rows of that entry in the file

	Rows    int    // written
	Entries int    // of which
	Last    uint64 // entry's sequence
}

// writeAt is the size of the buffer in bytes.
const writeAt = 256 << 10

// mostTail is more than the size of one entry's rows.
const mostTail = 32 << 20

// ToStdout starts an export to the standard output.
func ToStdout(w io.Writer, f exportFormat) *ExportFile {
	x := &ExportFile{w: w, format: f}
	x.pending.WriteString(f.header)
	return x
}

// ToFile starts an export to a new file, or resumes one.
func ToFile(path string, f exportFormat, resume bool) (*ExportFile, error) {
	flags := os.O_RDWR | os.O_CREATE
	if !resume {
		flags |= os.O_EXCL
	}
	file, err := os.OpenFile(path, flags, 0o600) // #nosec G304 -- the operator names it
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("--out: %s is there already: go on with it by --resume, or name another", path)
	}
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	x := &ExportFile{w: file, file: file, format: f}
	if err := x.resume(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("--resume: %s: %w", path, err)
	}
	return x, nil
}

// resume finds the last entry in the file, removes an incomplete line, and seeks to the end.
func (x *ExportFile) resume() error {
	size, err := x.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := x.checkHeader(size); err != nil {
		return err
	}
	tail := make([]byte, min(size, mostTail))
	if _, err := x.file.ReadAt(tail, size-int64(len(tail))); err != nil {
		return err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	end := size - int64(len(tail)-whole)
	if err := x.file.Truncate(end); err != nil {
		return err
	}
	if _, err := x.file.Seek(end, io.SeekStart); err != nil {
		return err
	}
	if end == 0 {
		x.pending.WriteString(x.format.header)
		return nil
	}
	if end <= int64(len(x.format.header)) {
		return nil // the header alone
	}
	return x.lastEntry(tail[:whole])
}

// checkHeader rejects a file that isn't an export in this format, before it is changed.
func (x *ExportFile) checkHeader(size int64) error {
	begin := make([]byte, min(size, int64(max(len(x.format.header), 1))))
	if _, err := x.file.ReadAt(begin, 0); err != nil {
		return err
	}
	want := x.format.header
	if want == "" {
		want = "{"
	}
	if len(begin) > 0 && !bytes.HasPrefix([]byte(want), begin) {
		return fmt.Errorf("it does not begin as an export as %s does", x.format.Name)
	}
	return nil
}

// lastEntry finds the rows of the last entry at the end of whole lines.
func (x *ExportFile) lastEntry(lines []byte) error {
	for at := len(lines); at > 0; {
		start := bytes.LastIndexByte(lines[:at-1], '\n') + 1
		sequence, err := x.format.sequenceOf(lines[start : at-1])
		if x.From != 0 && (err != nil || sequence != x.From) { // the header isn't a row
			return nil
		}
		if err != nil {
			return err
		}
		x.From, x.tail, at = sequence, lines[start:], start
	}
	return nil
}

// Add writes the rows of one entry. The first entry after a resumption must be the file's
// last one, with the same rows.
func (x *ExportFile) Add(sequence uint64, rows []ExportRow) error {
	before := x.pending.Len()
	if err := x.format.rows(&x.pending, rows); err != nil {
		return err
	}
	if x.tail != nil {
		written := x.pending.Bytes()[before:]
		if sequence != x.From || !bytes.HasPrefix(written, x.tail) {
			x.pending.Truncate(before)
			return x.resumeMismatch()
		}
		rest := bytes.Clone(written[len(x.tail):])
		x.pending.Truncate(before)
		x.pending.Write(rest)
		x.Rows -= bytes.Count(x.tail, []byte("\n"))
		x.Entries--
		x.tail = nil
	}
	x.Rows, x.Entries, x.Last = x.Rows+len(rows), x.Entries+1, sequence
	if x.pending.Len() < writeAt {
		return nil
	}
	return x.flush()
}

func (x *ExportFile) resumeMismatch() error {
	return fmt.Errorf("--resume: the file ends with entry %d, which this ledger doesn't have, has with other content, or which these options leave out: give the options that it was begun with, and check that the file is of this ledger", x.From)
}

func (x *ExportFile) flush() error {
	_, err := x.w.Write(x.pending.Bytes())
	x.pending.Reset()
	return err
}

// Close writes the rest and syncs the file. It is called after an error too, so that
// complete rows are kept.
func (x *ExportFile) Close(err error) error {
	if err == nil && x.tail != nil {
		err = x.resumeMismatch()
	}
	err = errors.Join(err, x.flush())
	if x.file != nil {
		err = errors.Join(err, x.file.Sync(), x.file.Close())
	}
	return err
}
