package dashboard

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestProfilesRejectUnknownHosts(t *testing.T) {
	mux := NewHandler(Probes{Profiles: true, Registry: prometheus.NewRegistry()}, New(Config{}))
	for host, want := range map[string]int{"127.0.0.1:8090": http.StatusOK, "localhost": http.StatusOK, "page.example": http.StatusMisdirectedRequest} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of %s: status %d, want %d", path, host, w.Code, want)
			}
		}
	}
}
