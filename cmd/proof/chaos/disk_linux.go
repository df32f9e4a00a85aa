package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

// insideVariable marks the runner that has its own mount namespace.
const insideVariable = "SETTLED_CHAOS_INSIDE"

// enterMountNamespace runs the program again in a mount namespace of its own, where it
// may mount a small disk that nobody else sees and that ends with it. A user other
// than root also gets a user namespace, as its root. done is false inside the
// namespace, and where the system refuses; then the run goes on without a small disk.
func enterMountNamespace() (status int, done bool) {
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
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait()
	return max(cmd.ProcessState.ExitCode(), -1) & 0xff, true
}

// smallDisk is a tmpfs whose size can be changed.
type smallDisk struct {
	path string
	size int64
}

func mountSmallDisk(path string, size int64) (*smallDisk, error) {
	if os.Getenv(insideVariable) == "" {
		return nil, errors.New("a small disk needs a mount namespace, which this system refuses (CLONE_NEWNS)")
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	// Otherwise a shared mount would show the disk outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return &smallDisk{path: path, size: size}, nil
}

// fill leaves almost no space, so that writes fail with "no space left on device".
func (d *smallDisk) fill() error {
	var used int64
	var s syscall.Statfs_t
	if syscall.Statfs(d.path, &s) == nil {
		used = int64(s.Blocks-s.Bfree) * s.Bsize
	}
	return d.resize(max(used+64<<10, 1<<20))
}

// empty gives the space back.
func (d *smallDisk) empty() error { return d.resize(d.size) }

func (d *smallDisk) resize(size int64) error {
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("resize %s to %d bytes: %w", filepath.Base(d.path), size, err)
	}
	return nil
}

func (d *smallDisk) unmount() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) }
