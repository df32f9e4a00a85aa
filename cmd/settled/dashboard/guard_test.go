package dashboard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"settled/settlement"
)

func TestChangesNeedTheToken(t *testing.T) {
	w := newWorld(t, nil)
	sequence := w.storeDeadLetter("a")
	path := "/api/deadletters/1/replay"
	for _, c := range []struct {
		name   string
		header map[string]string
		want   int
	}{
		{"no token", nil, http.StatusUnauthorized},
		{"a wrong token", map[string]string{"Authorization": "Bearer " + testToken + "x"}, http.StatusUnauthorized},
		{"an empty token", map[string]string{"Authorization": "Bearer "}, http.StatusUnauthorized},
		{"no bearer", map[string]string{"Authorization": testToken}, http.StatusUnauthorized},
		{"another site", map[string]string{"Authorization": "Bearer " + testToken, "Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"another origin", map[string]string{"Authorization": "Bearer " + testToken, "Origin": "http://evil.example"}, http.StatusForbidden},
	} {
		var answer struct{ Error string }
		if status := w.do("POST", path, "", c.header, &answer); status != c.want || answer.Error == "" {
			t.Errorf("%s: %d %q", c.name, status, answer.Error)
		}
	}
	if status := w.get(path, nil); status != http.StatusNotFound {
		t.Errorf("a GET: %d", status)
	}
	var page deadLetterPage
	if w.get("/api/deadletters", &page); len(page.Letters) != 1 || page.Letters[0].Sequence != sequence {
		t.Errorf("%+v: something was changed", page.Letters)
	}
	w.board.cfg.Token = ""
	var answer struct{ Error string }
	if status := w.do("POST", path, "", map[string]string{"Authorization": "Bearer "}, &answer); status != http.StatusForbidden || !strings.Contains(answer.Error, "http.token_file") {
		t.Errorf("without a configured token: %d %q", status, answer.Error)
	}
}

// TestPublicOrigin: behind a proxy that rewrites Host the page of http.origin may change
// something, and no other; a refusal names the key.
func TestPublicOrigin(t *testing.T) {
	for configured, want := range map[string]int{"": http.StatusForbidden, "http://ops.example": http.StatusNotFound, "https://ops.example": http.StatusForbidden} {
		w := newWorld(t, func(c *Config) { c.Origin, c.Loopback = configured, true })
		header := map[string]string{"Authorization": "Bearer " + testToken, "Host": "127.0.0.1"}
		for origin, want := range map[string]int{"http://ops.example": want, "http://evil.example": 403, "http://ops.example.evil": 403, "http://ops.example:81": 403, "null": 403} {
			header["Origin"] = origin
			var answer struct{ Error string }
			if status := w.do("POST", "/api/deadletters/77/replay", "", header, &answer); status != want || status == 403 && !strings.Contains(answer.Error, "http.origin") {
				t.Errorf("origin %q, configured %q: %d %q, want %d", origin, configured, status, answer.Error, want)
			}
		}
		name := 421
		if configured != "" {
			name = 200
		}
		for host, want := range map[string]int{"ops.example": name, "OPS.example:443": name, "ops.example:8443": name, "ops.example.evil:443": 421, "evil.example": 421} {
			if status := w.do("GET", "/api/overview", "", map[string]string{"Host": host}, nil); status != want {
				t.Errorf("as %s, configured %q: %d, want %d", host, configured, status, want)
			}
		}
	}
}

func TestForeignNames(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Loopback = true })
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8090": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "": 200,
		"localhost:8090": 200, "127.0.0.1:8090": 200, "[::1]:8090": 200, "board.localhost": 200,
	} {
		for _, path := range []string{"/", "/api/overview", "/api/nothing"} {
			want := want
			if path == "/api/nothing" && want == 200 {
				want = 404
			}
			if status := w.do("GET", path, "", map[string]string{"Host": host}, nil); status != want {
				t.Errorf("%s as %q: %d, want %d", path, host, status, want)
			}
		}
	}
}

func TestPages(t *testing.T) {
	mux := NewHandler(testProbes, New(Config{}))
	for path, want := range map[string]int{"/": 200, "/index.html": 200, "/app.js": 200, "/style.css": 200, "/nothing": 404, "/static": 404, "/..%2f..%2fboard.go": 404} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
		if csp := w.Header().Get("Content-Security-Policy"); w.Code == 200 && (!strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe")) {
			t.Errorf("%s: policy %q", path, csp)
		}
		if strings.HasSuffix(path, ".js") && !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
			t.Errorf("%s: %s", path, w.Header().Get("Content-Type"))
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", w.Code)
	}
}

// The code of a page makes no markup from text, and holds no script or style that
// the policy would refuse.
func TestPagesMakeNoMarkup(t *testing.T) {
	entries, err := static.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := static.ReadFile("static/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", " style=", "onclick=", "<style", "https://", "//cdn"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s has %q", e.Name(), word)
			}
		}
	}
}

func TestHostileReferenceIsData(t *testing.T) {
	w := newWorld(t, nil)
	e := closing(1)
	e.Reference = `<img src=x onerror="alert(1)">`
	w.append(e)
	var page feedPage
	w.get("/api/settlements", &page)
	if page.Entries[0].Reference != e.Reference {
		t.Errorf("%q", page.Entries[0].Reference)
	}
	if len(page.Entries[0].Allocations) != 1 || page.Entries[0].State != settlement.EntryClosing {
		t.Errorf("%+v", page.Entries[0])
	}
}
