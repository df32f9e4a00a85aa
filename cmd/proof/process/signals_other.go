//go:build !unix

package process

import "syscall"

// Without signals nothing is paused; the run goes on all the same.
const pauseSignal, resumeSignal = syscall.Signal(19), syscall.Signal(18)
