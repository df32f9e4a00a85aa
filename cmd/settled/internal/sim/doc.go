// Package sim is what `settled sim` adds to a simulated ClearNode: funded sessions, faults by
// name, a clock that can be moved, a state file, and the HTTP API that controls all of it.
package sim
