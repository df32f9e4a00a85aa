//go:build unix

package process

import "syscall"

const pauseSignal, resumeSignal = syscall.SIGSTOP, syscall.SIGCONT
