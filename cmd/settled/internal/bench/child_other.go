//go:build !linux

package bench

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
