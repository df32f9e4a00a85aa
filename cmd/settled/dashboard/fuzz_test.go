package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"settled/consumer/deadletter"
)

// FuzzBoard: no request without the token changes anything or shows it, whatever it
// looks like, and every one is answered.
func FuzzBoard(f *testing.F) {
	for _, line := range []string{
		"GET /", "GET /app.js", "GET /../x", "GET /api/overview?window=1h", "GET /api/settlements?before=7&limit=1&state=failed",
		"GET /api/session/0x0000000000000000000000000000000000000000000000000000000000000001", "GET /api/search?q=order", "GET /api/outcome?sequence=1", "GET /api/outcome?source=/a&id=%00%ff", "GET /api/outcome?session=0x0000000000000000000000000000000000000000000000000000000000000001", "GET /api/search?q=%00%ff",
		"GET /api/deadletters?after=0", "GET /api/deadletters/1", "POST /api/deadletters/1/replay", "POST /api/deadletters/1/discard",
		"POST /api/deadletters/18446744073709551616/discard", "GET /api/events?after=1", "DELETE /api/deadletters/1", "OPTIONS *",
	} {
		f.Add([]byte(line + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"reason\":\"x\"}"))
	}
	w := newWorld(f, nil)
	w.append(closing(1), closed(1))
	w.storeDeadLetter("a")
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil || strings.Contains(r.Header.Get("Authorization"), testToken) {
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/events") { // would go on for ever
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			r = r.WithContext(ctx)
		}
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		if answer.Code < 200 || answer.Code > 599 || strings.Contains(answer.Body.String(), testToken) {
			t.Fatalf("%s %s is answered %d: %.200s", r.Method, r.URL, answer.Code, answer.Body)
		}
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return
		}
		letters, err := w.board.cfg.DeadLetters.List(context.Background(), deadletter.Filter{})
		if err != nil || len(letters) != 1 || answer.Code < 300 {
			t.Fatalf("%s %s is answered %d, and leaves %d letters, %v", r.Method, r.URL, answer.Code, len(letters), err)
		}
	})
}
