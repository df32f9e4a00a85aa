//go:build !linux

package main

import "errors"

func enterOwnMounts() (status int, done bool) { return 0, false }

// smallDisk is a file system whose size can be changed; only Linux has one here.
type smallDisk struct{}

func mountSmallDisk(string, int64) (*smallDisk, error) {
	return nil, errors.New("a small disk is made on Linux only")
}

func (d *smallDisk) fill() error  { return nil }
func (d *smallDisk) empty() error { return nil }
func (d *smallDisk) unmount()     {}
