package dashboard

import "net/http"

// localProfile serves a profile of net/http/pprof. Like the dashboard on a loopback address,
// it rejects unknown Host headers, so that no web page can read it.
func localProfile(profile http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocalHost(r.Host) {
			http.Error(w, "open the profiles as 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		profile(w, r)
	})
}
