package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

const testToken = "0123456789abcdef0123456789"

// token configures one.
func (d *deployment) token() string {
	d.t.Helper()
	d.cfg.HTTPTokenFile = filepath.Join(d.dir, "token")
	d.must(os.WriteFile(d.cfg.HTTPTokenFile, []byte(testToken+"\n"), 0o600))
	return testToken
}

// openBoard serves the dashboard of a running service, each time at the same address.
func (d *deployment) openBoard(s *service.Service) *host.HTTPServer {
	d.t.Helper()
	h, err := s.ListenHTTP()
	d.must(err)
	s.Cfg.HTTPListen = h.Addr
	return h
}

// fetch asks a service and reads the answer into v, or as text where v is a *string.
func (d *deployment) fetch(method, url string, v any) (status int) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, url, nil)
	d.must(err)
	r.Header.Set("Authorization", "Bearer "+testToken)
	answer, err := http.DefaultClient.Do(r)
	d.must(err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	d.must(err)
	if text, ok := v.(*string); ok {
		*text = string(body)
	} else if v != nil {
		d.must(json.Unmarshal(body, v))
	}
	return answer.StatusCode
}

// A dead letter is replayed over HTTP, and its session closes; the record says who did it.
func TestDashboardOfAService(t *testing.T) {
	d := deploy(t)
	d.token()
	s, _ := d.serve()
	h := d.openBoard(s)
	defer h.Close()
	url := "http://" + h.Addr
	var page string
	if status := d.fetch("GET", url+"/", &page); status != http.StatusOK || !strings.Contains(page, "app.js") {
		t.Errorf("%d %s", status, page)
	}
	session := d.open()
	d.node.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.Error, Text: "message validation failed"})
	d.wantCode(d.result(session, d.publish("partial_service", "a", session, d.partial())), settlement.NodeRejected)
	var replayed struct{ Sequence uint64 }
	if status := d.fetch("POST", url+"/api/deadletters/1/replay", &replayed); status != http.StatusOK {
		t.Fatal(status)
	}
	d.wantClosed(session, replayed.Sequence)
	operations, err := d.nats.JS.Stream(t.Context(), "OPERATIONS")
	d.must(err)
	record, err := operations.GetLastMsgForSubject(t.Context(), "operation.replay")
	d.must(err)
	if !strings.Contains(string(record.Data), `"who":"dashboard of `) {
		t.Errorf("%s", record.Data)
	}
	d.until("the overview has it", func() bool {
		var o struct {
			Status struct {
				Problem string
				Node    struct{ Connections, Configured int }
			}
			Window struct{ Closed, Failed int }
		}
		d.fetch("GET", url+"/api/overview", &o)
		return o.Status.Problem == "" && o.Window.Closed == 1 && o.Window.Failed == 1 && o.Status.Node.Connections == o.Status.Node.Configured
	})
	d.verify(1)
}

func TestLoopback(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8090": true, "[::1]:8090": true, "localhost:0": true, "127.9.9.9:1": true,
		"0.0.0.0:8090": false, ":8090": false, "10.0.0.1:8090": false, "localhost.example:1": false, "": false,
	} {
		if got := natsconn.IsLoopback(listen); got != want {
			t.Errorf("%q: %v", listen, got)
		}
	}
}

// TestOriginAsConfigured: http.origin is compared as browsers write an origin.
func TestOriginAsConfigured(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "https://ops.example": "https://ops.example", "HTTPS://Ops.Example:443/settled/": "https://ops.example",
		"http://ops.example:80": "http://ops.example", "http://ops.example:8080/a/b": "http://ops.example:8080", "http://[::1]:80/": "http://[::1]",
	} {
		if got, err := config.Origin(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"ops.example", "ftp://ops.example", "https://", "https://*.example", "https://me@ops.example", "https://ops.example?x", "null", "*"} {
		if _, err := config.Origin(text); err == nil || !strings.Contains(err.Error(), "http.origin") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
