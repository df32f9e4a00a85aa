// Package config reads the configuration: every key with its default and meaning
// (defaults.go), from the file, the environment and flags, and the parts of it that each
// package takes (parts.go).
package config
