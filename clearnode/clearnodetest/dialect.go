package clearnodetest

import "fmt"

// What Config.Protocol may be. A node speaks one dialect for as long as it lives.
const (
	Nitro02     = "nitrorpc/0.2"    // ClearNode 0.5.2, which knows sessions of both its protocols whichever is named here
	Nitro04     = "nitrorpc/0.4"    // the same node
	Legacy      = "nitrorpc/legacy" // the ClearNode of May 2025
	NitronodeV1 = "nitronode/v1"    // nitronode 1.4.1
)

// dialect is how the node serves a connection.
type dialect struct {
	queue  int // requests read ahead
	greet  func(*Node, *conn)
	read   func(*conn) // fills the queue until the connection ends, then closes it
	write  func(*conn)
	handle func(*Node, *conn, []byte) bool // one frame from the queue; false: the connection and its queue are lost
	open   func(*Node, Definition, []Allocation) (string, error)
}

func speak(protocol string) (dialect, error) {
	nitro := dialect{
		queue: queued, greet: (*Node).listAssets, read: (*conn).read, write: (*conn).write, handle: (*Node).handle,
		open: (*Node).openUnsigned,
	}
	switch protocol {
	case "", Nitro02, Nitro04:
		return nitro, nil
	case Legacy:
		return legacy, nil
	case NitronodeV1:
		return nitronode, nil
	}
	return dialect{}, fmt.Errorf("protocol %q is none of %q, %q, %q and %q", protocol, Nitro02, Nitro04, Legacy, NitronodeV1)
}

// listAssets tells a new connection the assets.
func (n *Node) listAssets(c *conn) { c.send(n.notice("assets", n.assets(nil))) }

// openUnsigned opens a session as create_app_session does, but for everybody's signature.
func (n *Node) openUnsigned(def Definition, deposits []Allocation) (string, error) {
	n.mu.Lock()
	s, err := n.create(creation{Definition: def, Allocations: deposits}, nil)
	n.mu.Unlock()
	if err != nil {
		return "", err
	}
	n.tellFunders(deposits)
	return s.id, nil
}
