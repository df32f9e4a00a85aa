package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// insideVariable marks the runner that has mounts of its own.
const insideVariable = "SETTLED_CHAOS_INSIDE"

// enterOwnMounts runs the program again where it may mount a small disk: with
// mounts of its own, that nobody else sees and that end with it, and as the root of
// a user namespace where it isn't root. done is false where it is there already, or
// the system refuses; the run goes on without a full disk then.
func enterOwnMounts() (status int, done bool) {
	if os.Getenv(insideVariable) != "" {
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	stop := passSignals(cmd.Process)
	_ = cmd.Wait()
	stop()
	return max(cmd.ProcessState.ExitCode(), -1) & 0xff, true
}

// smallDisk is a file system in memory whose size can be changed.
type smallDisk struct {
	path string
	size int64
}

// mountSmallDisk mounts one at path. The error says why this can't be had here.
func mountSmallDisk(path string, size int64) (*smallDisk, error) {
	if os.Getenv(insideVariable) == "" {
		return nil, fmt.Errorf("a small disk needs mounts of our own, which this system refuses (CLONE_NEWNS)")
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	// Where mounts are shared, ours would show outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return &smallDisk{path: path, size: size}, nil
}

// fill leaves next to no room: whatever is written fails with "no space left".
func (d *smallDisk) fill() error { return d.resize(max(d.used()+64<<10, 1<<20)) }

// empty gives the room back.
func (d *smallDisk) empty() error { return d.resize(d.size) }

func (d *smallDisk) resize(size int64) error {
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("resize %s to %d bytes: %w", filepath.Base(d.path), size, err)
	}
	return nil
}

func (d *smallDisk) used() int64 {
	var s syscall.Statfs_t
	if syscall.Statfs(d.path, &s) != nil {
		return 0
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

func (d *smallDisk) unmount() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) }
