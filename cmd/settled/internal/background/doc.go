// Package background runs functions in goroutines of their own that somebody waits for.
package background
