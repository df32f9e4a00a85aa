package process

import "syscall"

const pauseSignal, resumeSignal = syscall.SIGSTOP, syscall.SIGCONT

// childAttributes end a process with the thread that started it, and put it into a
// process group of its own, so that Ctrl-C reaches only the runner.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
