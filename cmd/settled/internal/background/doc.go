// Package background runs functions in goroutines that can be stopped and waited for.
package background
