package bench

import "syscall"

// childAttributes end a child with this process, and put it into a process group of its
// own, so that Ctrl-C reaches only this one.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
