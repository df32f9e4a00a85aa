package natsconn

import (
	"net"
	"net/netip"
)

// IsLoopback reports whether only this machine reaches what listens there.
func IsLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Reachable returns the address at which this machine reaches a listener: loopback for one that
// listens on all addresses.
func Reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// Where a demo keeps its streams, below the directory for temporary files.
const (
	DemoDir   = "settled-demo-"
	DemoStore = "jetstream"
)
