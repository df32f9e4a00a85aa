package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof" // #nosec G108 -- its routes are served only if http.pprof is set, which needs a loopback address
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/consumer/deadletter"
)

// NewHandler serves every HTTP route of http.listen. Without a board, as in a co-signer, it
// serves no route of the dashboard.
func NewHandler(p Probes, b *Board) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, handler := range map[string]http.Handler{
		"GET /healthz": http.HandlerFunc(p.health),
		"GET /readyz":  http.HandlerFunc(p.readiness),
		"GET /metrics": promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{}),
	} {
		mux.Handle(pattern, handler)
	}
	if p.Profiles {
		for pattern, profile := range map[string]http.HandlerFunc{
			"/debug/pprof/":        pprof.Index,
			"/debug/pprof/cmdline": pprof.Cmdline,
			"/debug/pprof/profile": pprof.Profile,
			"/debug/pprof/symbol":  pprof.Symbol,
			"/debug/pprof/trace":   pprof.Trace,
		} {
			mux.Handle(pattern, localProfile(profile))
		}
	}
	if b == nil {
		return mux
	}
	for pattern, handler := range map[string]http.Handler{
		"GET /api/overview":                        b.watch(jsonHandler(b.overview)),
		"GET /api/settlements":                     b.watch(jsonHandler(b.settlements)),
		"GET /api/session/{id}":                    jsonHandler(b.session),
		"GET /api/outcome":                         jsonHandler(b.requireNATS(b.outcome)),
		"GET /api/search":                          b.watch(jsonHandler(b.search)),
		"GET /api/deadletters":                     jsonHandler(b.requireNATS(b.deadLetters)),
		"GET /api/deadletters/{sequence}":          jsonHandler(b.requireNATS(b.deadLetter)),
		"POST /api/deadletters/{sequence}/replay":  jsonHandler(b.requireToken(b.requireNATS(b.replay))),
		"POST /api/deadletters/{sequence}/discard": jsonHandler(b.requireToken(b.requireNATS(b.discard))),
		"GET /api/events":                          b.watch(http.HandlerFunc(b.events)),
		"/api/":                                    jsonHandler(noSuchRoute),
		"/":                                        http.HandlerFunc(serveStatic),
	} {
		mux.Handle(pattern, b.checkHost(handler))
	}
	return mux
}

// Probes is what the routes for orchestration and monitoring report.
type Probes struct {
	Alive    func() error  // an error if the process must be restarted; nil: it never must
	Ready    func() error  // an error while it can't work
	Stopped  func() string // why all sending is stopped, which doesn't count as not ready; nil: nothing is ever sent
	Registry *prometheus.Registry
	Profiles bool // serve those of net/http/pprof
}

func (p Probes) health(w http.ResponseWriter, _ *http.Request) {
	var err error
	if p.Alive != nil {
		err = p.Alive()
	}
	writeHealth(w, err, "")
}

func (p Probes) readiness(w http.ResponseWriter, r *http.Request) {
	stopped := ""
	switch {
	case r.URL.Query().Get("for") == "http":
		writeHealth(w, nil, "")
		return
	case p.Stopped != nil:
		stopped = p.Stopped()
	}
	writeHealth(w, p.Ready(), stopped)
}

// healthResult answers /healthz and /readyz.
type healthResult struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`   // what is missing; the status is 503 then
	Stopped string `json:"stopped,omitempty"` // why all sending is stopped, which doesn't count as not ready
}

// writeHealth writes {"ok":true}, or 503 and what is missing; and why all sending is
// stopped, if it is.
func writeHealth(w http.ResponseWriter, err error, stopped string) {
	result := healthResult{OK: err == nil, Stopped: stopped}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		result.Error = err.Error()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(result)
}

func noSuchRoute(*http.Request) (any, error) {
	return nil, apiError{http.StatusNotFound, "there is no such address or method under /api/"}
}

// requestTimeout bounds the requests to NATS of one HTTP request.
const requestTimeout = 15 * time.Second

// apiFunc returns the value of a response, or an error.
type apiFunc func(*http.Request) (any, error)

// apiError is an error with an HTTP status.
type apiError struct {
	status  int
	message string
}

func (e apiError) Error() string { return e.message }

// jsonHandler writes what f returns as JSON, an error as {"error": …}.
func jsonHandler(f apiFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		value, err := f(r.WithContext(ctx))
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, value)
	})
}

// errorResult is the answer of a request that failed.
type errorResult struct {
	Error string `json:"error"` // what is wrong, and what to do
}

func writeError(w http.ResponseWriter, err error) {
	httpStatus := http.StatusInternalServerError
	var e apiError
	switch {
	case errors.As(err, &e):
		httpStatus = e.status
	case errors.Is(err, deadletter.ErrNotFound), errors.Is(err, status.ErrNotFound):
		httpStatus = http.StatusNotFound
	case natsconn.IsUnavailable(err), errors.Is(err, jetstream.ErrStreamNotFound):
		httpStatus = http.StatusServiceUnavailable
	}
	if httpStatus == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="settled"`)
	}
	writeJSON(w, httpStatus, errorResult{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the response could not be encoded as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// requireNATS fails at once where NATS is disconnected, instead of waiting for it.
func (b *Board) requireNATS(f apiFunc) apiFunc {
	return func(r *http.Request) (any, error) {
		if err := b.reader.checkConnected(); err != nil {
			return nil, err
		}
		return f(r)
	}
}

// queryNumber parses a query parameter as a number.
func queryNumber(r *http.Request, name string, missing uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, apiError{http.StatusBadRequest, name + ": want a whole number"}
	}
	return n, nil
}

//go:embed static
var static embed.FS

// contentSecurityPolicy lets the page load and run only its own files and connect only
// to its own server, and forbids other pages to frame it. With trusted types, the browser
// refuses every assignment of markup.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// serveStatic serves the embedded files.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	body, err := static.ReadFile(path.Join("static", name))
	if err != nil {
		http.Error(w, "there is no such page; the dashboard is at /", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	sum := sha256.Sum256(body)
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
}
