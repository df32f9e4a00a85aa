package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// Sleep waits, and reports whether ctx is still alive.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// WaitUntil calls why every 200 ms until it returns "". It fails if that takes too
// long, with the last reason, or if ctx ends.
func WaitUntil(ctx context.Context, within time.Duration, why func() string) error {
	for deadline := time.Now().Add(within); ; {
		reason := why()
		switch {
		case reason == "":
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("not within %s: %s", within, reason)
		case !Sleep(ctx, 200*time.Millisecond):
			return ctx.Err()
		}
	}
}

// WhyNotReady asks the /readyz URL of a settled why it isn't ready; "" means ready.
func WhyNotReady(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusOK {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	return answer.Status + ": " + string(text)
}

// FreePort returns a port on which nobody listens. It is below the ports that systems
// give to outgoing connections, so that it is still free when a process restarts.
func FreePort() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found between 10000 and 30000")
}
