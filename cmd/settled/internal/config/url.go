package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// RedactURL hides the user information and the query of a URL, or of a list of them: both may
// contain secrets. A URL may lack its scheme.
func RedactURL(value string) string {
	if !strings.ContainsAny(value, "@?") {
		return value
	}
	parts := strings.Split(value, ",")
	for i, part := range parts {
		parts[i] = redactOneURL(part)
	}
	return strings.Join(parts, ",")
}

func redactOneURL(text string) string {
	bare := !strings.Contains(text, "://")
	if bare {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "(unreadable URL)"
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	if bare {
		return strings.TrimPrefix(u.String(), "nats://")
	}
	return u.String()
}

// URLUser returns the user name of the first server's URL that has one with a password.
func URLUser(urls string) string {
	for part := range strings.SplitSeq(urls, ",") {
		if u := ParseServerURL(part); u != nil && u.User != nil {
			if _, given := u.User.Password(); given {
				return u.User.Username()
			}
		}
	}
	return ""
}

// ParseServerURL parses a server's address as the client library does; nil: it is invalid.
func ParseServerURL(text string) *url.URL {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(nats.DefaultPort))
	}
	return u
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$`)

// ValidHost reports whether a text is an IP address or can be a host's name. A name
// whose last label is a number would be an IP address.
func ValidHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	_, err := strconv.Atoi(labels[len(labels)-1])
	return hostName.MatchString(host) && err != nil
}

// ValidPort reports whether a URL's port can be one; the empty one is the scheme's own.
func ValidPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil
}
