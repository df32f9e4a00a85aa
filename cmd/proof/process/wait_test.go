package process

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWhyNotReady(t *testing.T) {
	why := "NATS is not connected"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
		}
	}))
	if got := WhyNotReady(t.Context(), server.URL); !strings.Contains(got, why) {
		t.Errorf("%q, want %q", got, why)
	}
	why = ""
	if got := WhyNotReady(t.Context(), server.URL); got != "" {
		t.Errorf("%q of a ready one", got)
	}
	server.Close()
	if got := WhyNotReady(t.Context(), server.URL); got == "" {
		t.Error("one that is gone is ready")
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !Pause(ctx, time.Nanosecond) || !Pause(ctx, 0) {
		t.Error("a pause ended although its context goes on")
	}
	cancel()
	if Pause(ctx, time.Hour) || Pause(ctx, 0) {
		t.Error("a pause outlasts its context")
	}
}
