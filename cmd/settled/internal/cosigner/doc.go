// Package cosigner is both sides of co-signing: Cosigner answers the requests of other
// parties (cosigner.go), Client asks them for their signatures (client.go).
package cosigner
