// Package policies explains, tests and compares policies for `settled policy`. What a policy
// pays is computed by package settlement alone.
package policies
