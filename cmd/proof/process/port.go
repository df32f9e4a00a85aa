package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort is a port that nobody listens on, below those that systems give to
// outgoing connections: it must still be free after a restart.
func FreePort() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found between 10000 and 30000")
}
