package process

import "syscall"

// childAttributes let a process end with the one that started it, and keep it out
// of the terminal's group, so that Ctrl-C reaches the runner alone.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
