package host

import (
	"fmt"
	"time"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer/operations"
)

// StopText describes who stopped all sending, when and why.
func StopText(op *operations.Record) string {
	text := fmt.Sprintf("Sending was stopped by %s at %s (%s ago): %s", op.Who, terminal.FormatTime(op.At), time.Since(op.At).Round(time.Second), op.Reason)
	if op.Session != "" {
		text += fmt.Sprintf("\n    session  %s\n    outcome  %s (%s)", op.Session, op.Origin, op.Code)
	}
	return terminal.PrintableLines(text)
}
