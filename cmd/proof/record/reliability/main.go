// Reliability writes settlement/RELIABILITY.md out of the runs that are kept.
package main

import (
	"fmt"
	"os"

	"settled/cmd/proof/record"
)

func main() {
	if err := write(record.Folder, "settlement/RELIABILITY.md"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(folder, path string) error {
	runs, err := record.Load(folder)
	if err != nil {
		return err
	}
	bugs, err := record.Bugs()
	if err != nil {
		return err
	}
	text, err := record.Document(runs, bugs)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644) // #nosec G306 -- documentation
}
