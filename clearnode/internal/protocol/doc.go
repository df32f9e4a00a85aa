// Package protocol holds what the client and the three generations of the node's
// protocol share: frames and answers, the meaning of the node's errors, signature
// schemes, and the interfaces through which a generation uses the client.
package protocol
