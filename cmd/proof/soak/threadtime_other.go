//go:build !linux

package main

func threadTime() float64 { return 0 }
