// Package cosigner is both sides of co-signing: Cosigner answers the requests of other
// parties (cosigner.go), Cosigners asks them for their signatures (cosigners.go).
package cosigner
