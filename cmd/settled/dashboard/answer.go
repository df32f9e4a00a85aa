package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
)

// askTime bounds what one request may ask NATS for.
const askTime = 15 * time.Second

// problem is an answer that says what is wrong.
type problem struct {
	status  int
	message string
}

func (p problem) Error() string { return p.message }

// answerJSON writes what answer returns, or {"error": …}.
func answerJSON(answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), askTime)
		defer cancel()
		value, err := answer(r.WithContext(ctx))
		if err != nil {
			refuse(w, err)
			return
		}
		writeJSON(w, http.StatusOK, value)
	})
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var p problem
	switch {
	case errors.As(err, &p):
		status = p.status
	case errors.Is(err, consumer.ErrNoDeadLetter):
		status = http.StatusNotFound
	case away(err):
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="settled"`)
	}
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

// away reports that NATS didn't answer, or not in time.
func away(err error) bool {
	for _, one := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrConnectionReconnecting, jetstream.ErrStreamNotFound} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
