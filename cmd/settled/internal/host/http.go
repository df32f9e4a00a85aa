package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// HTTPServer serves the health of the process and its metrics, and the dashboard
// of a service.
type HTTPServer struct {
	OnClose func() // called first by Close; may be nil
	server  *http.Server
	Addr    string
	done    chan struct{}
}

func ListenHTTP(addr string, routes http.Handler, log zerolog.Logger) (*HTTPServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w: is another settled running? name another address, or port 0", err)
	}
	h := &HTTPServer{Addr: listener.Addr().String(), done: make(chan struct{})}
	h.server = &http.Server{
		Handler: routes, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Msg("HTTP server ended")
		}
	}()
	log.Info().Str("addr", h.Addr).Msg("serving HTTP")
	return h, nil
}

// shutdownTimeout bounds the wait for requests in progress.
const shutdownTimeout = time.Second

// Close ends the dashboard and its event streams, waits for requests in progress for
// shutdownTimeout, and closes the remaining connections.
func (h *HTTPServer) Close() {
	if h.OnClose != nil {
		h.OnClose()
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if h.server.Shutdown(ctx) != nil {
		_ = h.server.Close()
	}
	<-h.done
}

// Routes returns the routes of every service: its health, readiness and metrics.
func Routes(alive, ready func() error, stopped func() string, registry *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, alive(), "") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("for") == "http" {
			writeHealth(w, nil, "")
			return
		}
		writeHealth(w, ready(), stopped())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// writeHealth writes {"ok":true}, or 503 and what is missing; and why all sending is stopped,
// which is intended and doesn't count as not ready.
func writeHealth(w http.ResponseWriter, err error, stopped string) {
	result := struct {
		OK      bool   `json:"ok"`
		Error   string `json:"error,omitempty"`
		Stopped string `json:"stopped,omitempty"`
	}{OK: err == nil, Stopped: stopped}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		result.Error = err.Error()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(result)
}
