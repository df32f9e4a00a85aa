package dashboard

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// known refuses a foreign host name where only this machine should reach the board:
// a web page could otherwise point a name of its own here, and read.
func (b *Board) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.cfg.Loopback && !ownName(r.Host) && !b.publicName(r.Host) {
			refuse(w, problem{http.StatusMisdirectedRequest, "settled listens on loopback only and was reached as " + cut(r.Host, 100) + ": open it as 127.0.0.1 or localhost, have your proxy send that name as the Host, or set http.origin to the address that browsers open"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// publicName reports whether a Host header names the host of http.origin, with whatever
// port: a proxy may add that at which it listens itself.
func (b *Board) publicName(host string) bool {
	_, public, found := strings.Cut(b.cfg.Origin, "://")
	return found && strings.EqualFold(hostName(public), hostName(host))
}

// hostName is a Host header without the port.
func hostName(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name
}

// ownName reports whether a Host header can't be a name of somebody else's.
func ownName(host string) bool {
	name := hostName(host)
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// permitted lets through what carries the token and comes from no other site's page.
func (b *Board) permitted(answer func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	origin := http.NewCrossOriginProtection()
	if b.cfg.Origin != "" {
		if err := origin.AddTrustedOrigin(b.cfg.Origin); err != nil {
			b.cfg.Log.Error().Err(err).Msg("http.origin is not used")
		}
	}
	return func(r *http.Request) (any, error) {
		if err := origin.Check(r); err != nil {
			return nil, problem{http.StatusForbidden, fmt.Sprintf("this request comes from the page of another site, %q: %s; where that is the dashboard behind your proxy, set http.origin to its address and start settled again", cut(r.Header.Get("Origin"), 100), err)}
		}
		if b.cfg.Token == "" {
			return nil, problem{http.StatusForbidden, "nothing can be changed here: set http.token_file to a file with a token, and start settled again"}
		}
		given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer || !same(strings.TrimSpace(given), b.cfg.Token) {
			b.cfg.Log.Warn().Str("from", r.RemoteAddr).Str("path", r.URL.Path).Bool("token_given", given != "").Msg("a change was refused: its token is missing or wrong")
			return nil, problem{http.StatusUnauthorized, "the token is missing or wrong: it stands in the file that http.token_file names"}
		}
		return answer(r)
	}
}

// same compares in a time that says nothing about where two texts differ.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
