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

// checkHost rejects unknown Host headers on a loopback address: otherwise a web page could
// point a name of its own at this address and read the dashboard (DNS rebinding).
func (b *Board) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.cfg.Loopback && !isLocalHost(r.Host) && !b.isPublicHost(r.Host) {
			writeError(w, apiError{http.StatusMisdirectedRequest, "settled listens on loopback only and was reached as " + truncate(r.Host, 100) + ": open it as 127.0.0.1 or localhost, configure your proxy to send that name as the Host, or set http.origin to the address that browsers open"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isPublicHost reports whether a Host header names the host of http.origin. The port is
// not compared, because a proxy may send the port at which it listens itself.
func (b *Board) isPublicHost(host string) bool {
	_, public, found := strings.Cut(b.cfg.Origin, "://")
	return found && strings.EqualFold(hostName(public), hostName(host))
}

// isLocalHost reports whether a Host header is an address or a name that resolves to
// this machine only.
func isLocalHost(host string) bool {
	name := hostName(host)
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// hostName returns a Host header without the port.
func hostName(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name
}

// requireToken passes on requests that carry the token and do not come from the page of
// another site.
func (b *Board) requireToken(next apiFunc) apiFunc {
	origin := http.NewCrossOriginProtection()
	if b.cfg.Origin != "" {
		if err := origin.AddTrustedOrigin(b.cfg.Origin); err != nil {
			b.cfg.Log.Error().Err(err).Msg("http.origin is not used")
		}
	}
	return func(r *http.Request) (any, error) {
		if err := origin.Check(r); err != nil {
			return nil, apiError{http.StatusForbidden, fmt.Sprintf("this request comes from the page of another site, %q: %s; if that is the dashboard behind your proxy, set http.origin to its address and start settled again", truncate(r.Header.Get("Origin"), 100), err)}
		}
		if b.cfg.Token == "" {
			return nil, apiError{http.StatusForbidden, "nothing can be changed here: set http.token_file to a file with a token, and start settled again"}
		}
		given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		// The digests have one length, so that the comparison takes the same time for every token.
		got, want := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(b.cfg.Token))
		if !bearer || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			b.cfg.Log.Warn().Str("from", r.RemoteAddr).Str("path", r.URL.Path).Bool("token_given", given != "").Msg("a change was refused: its token is missing or wrong")
			return nil, apiError{http.StatusUnauthorized, "the token is missing or wrong: it is in the file that http.token_file names"}
		}
		return next(r)
	}
}
