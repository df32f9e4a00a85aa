package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

// HTTPServer serves the routes that package dashboard lists.
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
