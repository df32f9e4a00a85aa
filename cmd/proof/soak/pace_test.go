package main

import (
	"encoding/json"
	"runtime"
	"testing"
)

// A settlement that takes more processor time because the processor is slower is no
// dearer; one that takes more than that is.
func TestPaceOfTheProcessor(t *testing.T) {
	first := tenth{CPU: 5000, Pace: 1000}
	if got := (tenth{CPU: 6000, Pace: 1200}).atPaceOf(first); got != 5000 {
		t.Errorf("on a slower processor: %v", got)
	}
	if got := (tenth{CPU: 6000, Pace: 1000}).atPaceOf(first); got != 6000 {
		t.Errorf("on the same: %v", got)
	}
	if got := (tenth{CPU: 6000}).atPaceOf(first); got != 6000 {
		t.Errorf("where it isn't known: %v", got)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if took := fixedWork(); took <= 0 && runtime.GOOS == "linux" || !json.Valid(fixed) {
		t.Errorf("the fixed piece of work took %v s", took)
	}
}
