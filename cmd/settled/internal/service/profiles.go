package service

import (
	"net/http"
	"net/http/pprof" // #nosec G108 -- its routes are mounted only if http.pprof is set, which needs a loopback address

	"settled/cmd/settled/dashboard"
)

// mountProfiles adds the profiles of net/http/pprof. Like the dashboard on a loopback
// address, they reject unknown Host headers, so that no web page can read them.
func mountProfiles(mux *http.ServeMux) {
	for path, profile := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if !dashboard.IsLocalHost(r.Host) {
				http.Error(w, "open the profiles as 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
				return
			}
			profile(w, r)
		})
	}
}
