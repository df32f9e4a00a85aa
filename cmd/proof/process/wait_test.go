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

func TestWaitUntil(t *testing.T) {
	reasons := []string{"starting", "still starting", ""}
	err := WaitUntil(t.Context(), time.Hour, func() string {
		reason := reasons[0]
		reasons = reasons[1:]
		return reason
	})
	if err != nil || len(reasons) > 0 {
		t.Errorf("error %v, %d reasons left", err, len(reasons))
	}
	if err := WaitUntil(t.Context(), 0, func() string { return "broken" }); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error %v, want the reason", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WaitUntil(ctx, time.Hour, func() string { return "broken" }); err != context.Canceled {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}
