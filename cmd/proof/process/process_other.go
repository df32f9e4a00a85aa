//go:build !linux

package process

import "syscall"

// SIGSTOP and SIGCONT as on BSD and macOS. Where they don't exist, nothing is paused.
const pauseSignal, resumeSignal = syscall.Signal(17), syscall.Signal(19)

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
