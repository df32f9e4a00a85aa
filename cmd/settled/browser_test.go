//go:build browser

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

const hostile = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`

// boardTest is a deployment with something of everything in its ledger, and its
// dashboard in a browser.
type boardTest struct {
	*browser
	service *service.Service
	http    *host.HTTPServer
	token   string
	alice   string
	bob     string
}

func newBoardTest(t *testing.T) *boardTest {
	d := deploy(t)
	token := d.token()
	d.cfg.NodeFenceMargin = 15 * time.Second // a doubt lasts long enough to be looked at
	s, _ := d.serve()
	h := d.openBoard(s)
	b := &boardTest{service: s, http: h, token: token, alice: addressOf(d.players[0]), bob: addressOf(d.players[1])}
	t.Cleanup(func() { b.http.Close() })
	b.browser = openBrowser(d, "http://"+h.Addr+"/")
	b.shots("empty")
	b.wait("main", "No outcome has a result yet")
	return b
}

// TestBrowser is a tour of the dashboard as an operator makes it, in a real browser.
func TestBrowser(t *testing.T) {
	b := newBoardTest(t)
	b.feedMoves()
	b.hostileText()
	b.sessionPage()
	b.searches()
	b.keyboard()
	b.themes()
	b.replays()
	b.discards()
	b.doubt()
	b.stops()
	b.clean()
	b.disconnects()
	b.verify(b.closedSessions())
}

func (b *boardTest) closedSessions() (n int) {
	for _, e := range b.allEntries() {
		if e.State == settlement.EntryClosed {
			n++
		}
	}
	return n
}

// good publishes an outcome that closes a new session.
func (b *boardTest) good(scenario, id, reference string, members map[string]any) settlement.SessionID {
	b.t.Helper()
	session := b.deployment.open()
	data := map[string]any{"parties": map[string]any{"provider": b.bob, "winner": []string{b.alice, b.bob}}, "reference": reference}
	for name, v := range members {
		data[name] = v
	}
	b.publish(scenario, id, session, data)
	return session
}

func (b *boardTest) feedMoves() {
	b.good("payment_completed", "order-4711", "invoice 4711", nil)
	b.wait(".feed", "invoice 4711")
	for i := range 12 {
		b.good([]string{"payment_completed", "game_completed", "partial_service", "cancellation"}[i%4], fmt.Sprint("job-", i), fmt.Sprint("order ", 1000+i), map[string]any{"completion": "0.3"})
	}
	b.good("game_completed", "tie-1", "table 9, final round", nil)
	b.publish("cancellation", "lost", settlement.SessionID("0x"+strings.Repeat("ab", 32)), nil)
	b.publish("lost_in_space", "nobody", b.deployment.open(), nil)
	b.publishRaw("payment_completed", []byte("this is not an event"))
	b.wait(".figure:nth-child(1) .number", "14")
	b.wait(".figure:nth-child(2) .number", "3")
	b.wait(".figure:nth-child(6) .number", "3")
	b.wait("#letters", "3")
	b.wait(".side", "session_not_found")
	if n := b.js("document.querySelectorAll('.plot.bars rect.closed').length"); n == 0.0 {
		b.t.Error("no bar is drawn")
	}
	if b.js("document.querySelector('.plot.lines').getAttribute('aria-label').includes('p50')") != true {
		b.t.Error("the plot of latency can't be read by a screen reader")
	}
}

// What a publisher writes is shown as it is written, and does nothing.
func (b *boardTest) hostileText() {
	session := b.good("payment_completed", hostile, hostile, map[string]any{"reason": hostile, "evidence": []string{hostile}})
	b.wait(".feed", hostile)
	b.open("#/session/" + string(session))
	b.wait("main", "Closed at the node")
	b.wait("main", hostile)
	b.open("#/search?q=" + "%3Cimg")
	b.wait("main", "Closed at the node") // the only match: its session
	if n := b.js("document.querySelectorAll('main img, main script, [onerror]').length"); n != 0.0 {
		b.t.Errorf("%v elements were made from a publisher's text", n)
	}
	if b.js("window.hacked === undefined") != true {
		b.t.Error("a publisher's text was run")
	}
	b.clean()
	b.open("#/")
}

func (b *boardTest) sessionPage() {
	session := b.good("dispute_resolved", "ruling-3", "case 3", map[string]any{"awards": []any{
		map[string]any{"participant": b.alice, "share": "0.75"}, map[string]any{"participant": b.bob, "share": "0.25"},
	}})
	b.open("#/session/" + string(session))
	b.wait(".standing", "Closed") // also where it was opened before it was closed: the page follows
	b.wait(".amounts", "11.250001")
	b.wait(".splits", "15.000001")
	b.wait(".timeline", "Intent recorded")
	b.wait("main", "complete, 2 entries")
	b.js("document.querySelector('.step.closed summary').click()")
	b.wait(".step.closed pre", `"session_version"`)
	b.shots("session")
	b.open("#/session/0x" + strings.Repeat("0", 64))
	b.wait("main", "Nothing is recorded of this session")
}

func (b *boardTest) searches() {
	find := func(text string) {
		b.js("document.getElementById('query').focus()")
		b.js("document.getElementById('query').value = ''")
		b.keys(text + enter)
	}
	find("INVOICE 4711")
	b.wait("main", "order-4711")
	find("order 10")
	b.wait("main", "order 1003")
	b.shots("search")
	find("no such thing")
	b.wait("main", "Nothing found")
	b.open("#/")
}

func (b *boardTest) keyboard() {
	b.js("document.activeElement.blur()")
	b.keys("gd")
	b.wait("h1", "Dead letters")
	b.keys("go")
	b.wait("h1", "Overview")
	b.wait(".feed", "order 1003")
	b.keys("/")
	if id := b.js("document.activeElement.id"); id != "query" {
		b.t.Errorf("/ goes to %v", id)
	}
	b.js("document.activeElement.blur()")
	b.keys("jj")
	first, _ := b.js("[...document.querySelectorAll('a.row')].indexOf(document.activeElement)").(float64)
	if first != 1 {
		b.t.Errorf("after j, j row %v has the focus", first)
	}
	b.keys(enter)
	b.wait(".crumb", "Session")
	b.keys("?")
	b.wait("dialog", "Keyboard shortcuts")
	b.shot("keys-desktop-light")
	b.keys("\u001b")
	b.noDialog()
	b.open("#/")
	b.wait("h1", "Overview")
	b.js("document.querySelector('.plot.bars').focus()")
	b.do(arrow())
	b.wait(".plotcard .readout", "closed,")
}

func (b *boardTest) themes() {
	b.js("document.activeElement.blur()")
	for _, want := range []string{"light", "dark", "auto"} {
		b.keys("t")
		if got := b.js("document.documentElement.dataset.theme"); got != want {
			b.t.Errorf("theme %v, want %s", got, want)
		}
	}
	b.shots("overview")
	b.open("#/settlements")
	b.wait(".feed", "order 1003")
	b.shots("settlements")
}

// A dead letter is replayed by click, and its session closes.
func (b *boardTest) replays() {
	session := b.deployment.open()
	b.node.Inject(clearnodetest.Fault{Method: "close_app_session", Session: string(session), Kind: clearnodetest.Error, Text: "message validation failed"})
	sequence := b.publish("partial_service", "replayed", session, b.partial())
	b.wantCode(b.result(session, sequence), settlement.NodeRejected)
	b.open("#/deadletters")
	b.wait(".letters", "node_rejected")
	b.shots("deadletters")
	b.do(click(".letters a"))
	b.wait("main", "message validation failed")
	b.wait(".payload", `"completion": "0.3333333"`)
	b.shots("deadletter")
	b.do(click("#replay"))
	b.wait("dialog", "Replay dead letter")
	b.keys("a wrong token, long enough" + enter)
	b.wait(".formerror", "token is missing or wrong")
	b.shots("dialog")
	b.js("document.getElementById('token').value = ''; document.getElementById('token').focus()")
	b.keys(b.token + enter)
	b.wait("dialog", "is published again as OUTCOMES/")
	b.shot("replayed-desktop-light")
	b.keys(enter) // on the link to its session, which has the focus
	b.wait(".standing", "Closed")
	b.noDialog()
	b.wait(".timeline", "Failed")
	b.shots("session-replayed")
	for _, l := range b.letters() {
		if l.Session == session {
			b.t.Error("the dead letter is still there")
		}
	}
}

func (b *boardTest) discards() {
	letters := b.letters()
	b.open(fmt.Sprint("#/deadletters/", letters[0].Sequence))
	b.do(click("#discard"))
	b.wait("dialog", "Discard dead letter")
	b.keys("a test made it") // the token is remembered
	b.do(click("#confirm"))
	b.wait("dialog", fmt.Sprintf("Dead letter %d is removed", letters[0].Sequence))
	b.keys(enter)
	b.wait("h1", "Dead letters")
	b.noDialog()
	if after := b.letters(); len(after) != len(letters)-1 {
		b.t.Errorf("%d dead letters, want %d", len(after), len(letters)-1)
	}
}

func (b *boardTest) noDialog() {
	b.t.Helper()
	if b.js("document.getElementById('dialog').open") != false {
		b.t.Error("a dialog is open")
	}
}

// A close whose request is lost is in doubt until its fence expires.
func (b *boardTest) doubt() {
	b.open("#/")
	session := b.deployment.open()
	b.node.Inject(clearnodetest.Fault{Method: "close_app_session", Session: string(session), Kind: clearnodetest.LoseRequest})
	sequence := b.publish("partial_service", "doubted", session, map[string]any{"parties": map[string]any{"provider": b.bob}, "completion": "0.5", "reference": "in the dark"})
	b.wait(".side", "fence expires in")
	b.wait(".side", "in_doubt")
	b.shots("doubt")
	b.wantClosed(session, sequence)
	b.wait(".side", "None. A session is in doubt")
}

func (b *boardTest) stops() {
	at := time.Now().UTC().Format(time.RFC3339)
	stop, err := b.nats.JS.Publish(b.t.Context(), "operation.stop", fmt.Appendf(nil, `{"action":"stop","who":"ann@ops-1","at":%q,"reason":"overpaid: the node paid 30 of 15 usdc","session_id":"0x%s"}`, at, strings.Repeat("17", 32)))
	b.must(err)
	b.wait("#alerts", "Sending is stopped, on every replica. By ann@ops-1")
	b.shots("stopped")
	_, err = b.nats.JS.Publish(b.t.Context(), "operation.resume", fmt.Appendf(nil, `{"action":"resume","who":"ann@ops-1","at":%q,"reason":"paid back","stop":%d}`, at, stop.Sequence))
	b.must(err)
	b.gone("#alerts .alert.bad")

	b.node.Stop()
	b.wait("#alerts", "Paused: no outcome is fetched")
	b.shot("paused-desktop-light")
	b.node.Resume()
	b.gone("#alerts .alert")
}

// gone waits until nothing matches.
func (b *boardTest) gone(selector string) {
	b.t.Helper()
	b.until(selector+" is gone", func() bool {
		return b.js(fmt.Sprintf("document.querySelector(%q) === null", selector)) == true
	})
}

// disconnects: the page says that it is cut off, and goes on by itself.
func (b *boardTest) disconnects() {
	b.open("#/")
	b.wait(".feed", "in the dark")
	b.http.Close()
	b.wait("#alerts", "No connection to settled")
	b.shots("disconnected")
	session := b.good("payment_completed", "unseen", "while nobody looked", nil)
	b.until("it is closed", func() bool {
		head, err := b.ledger().Head(b.t.Context(), session)
		return err == nil && head.Standing().State == settlement.Closed
	})
	b.http = b.openBoard(b.service)
	b.gone("#alerts .alert")
	b.wait(".feed", "while nobody looked")

	b.http.Close() // and served again without a token
	b.service.Cfg.HTTPTokenFile = ""
	b.http = b.openBoard(b.service)
	b.gone("#alerts .alert")
	b.open(fmt.Sprint("#/deadletters/", b.letters()[0].Sequence))
	b.wait("#readonly", "http.token_file is not set")
	b.shot("readonly-desktop-light")
}
