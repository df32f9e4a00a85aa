//go:build !linux

package main

import "errors"

func enterMountNamespace() (status int, done bool) { return 0, false }

type smallDisk struct{}

func mountSmallDisk(string, int64) (*smallDisk, error) {
	return nil, errors.New("mounting a small disk needs Linux")
}

func (d *smallDisk) fill() error  { return nil }
func (d *smallDisk) empty() error { return nil }
func (d *smallDisk) unmount()     {}
