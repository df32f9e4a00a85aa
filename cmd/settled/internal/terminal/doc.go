// Package terminal is what every command shares with its caller: the streams that it
// reads and writes, results as text or JSON, tables, progress, and text from outside made
// safe to print.
package terminal
