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
		t.Errorf("%q, want ready", got)
	}
	server.Close()
	if got := WhyNotReady(t.Context(), server.URL); got == "" {
		t.Error("a server that was closed is ready")
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !Sleep(ctx, time.Nanosecond) || !Sleep(ctx, 0) {
		t.Error("Sleep reports an end although its context is alive")
	}
	cancel()
	if Sleep(ctx, time.Hour) || Sleep(ctx, 0) {
		t.Error("Sleep outlasts its context")
	}
}
