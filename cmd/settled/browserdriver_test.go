//go:build browser

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"settled/ledger"
	"settled/settlement"
)

// browser is a real one, that shows the dashboard of a deployment.
type browser struct {
	*deployment
	ctx    context.Context
	url    string
	screen string // where pictures go; empty: none are taken

	mu    sync.Mutex
	wrong []string // what the page complained of
}

// openBrowser starts a browser on a page. It fails where there is none: what is
// shown can only be tested by looking at it.
func openBrowser(d *deployment, url string) *browser {
	d.t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		d.t.Fatal("there is no browser: install Debian's package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(d.t.TempDir()))
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	d.t.Cleanup(func() { _ = chromedp.Cancel(ctx); cancel(); cancelAllocator() })
	b := &browser{deployment: d, ctx: ctx, url: url, screen: os.Getenv("SETTLED_SCREENS")}
	d.must(chromedp.Do(ctx)) // starts it, for as long as ctx lives
	d.must(chromedp.Listen(ctx, b.listen))
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	b.size(1360, 900, false)
	b.do(chromedp.Navigate(url))
	return b
}

// listen notes what the page complains of: exceptions, and what its policy refused.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, e.ExceptionDetails.Text+": "+describe(e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.wrong = append(b.wrong, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.url) {
			b.wrong = append(b.wrong, "asks another host: "+e.Request.URL)
		}
	}
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}

// clean: the page complained of nothing so far.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.wrong {
		b.t.Errorf("the page complains: %s", text)
	}
	b.wrong = nil
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.shot("failed")
		b.t.Fatalf("%v", err)
	}
}

// js evaluates an expression.
func (b *browser) js(expression string) (value any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[any](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// call runs a command of the browser's protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], parameters P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, parameters); err != nil {
		b.t.Fatal(err)
	}
}

// text is what a person reads there.
func (b *browser) text(selector string) string {
	b.t.Helper()
	text, _ := b.js(fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)).(string)
	return text
}

// wait waits until a place shows a text.
func (b *browser) wait(selector, text string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := b.text(selector)
		if strings.Contains(got, text) {
			return
		}
		if time.Now().After(deadline) {
			b.shot("failed")
			b.t.Fatalf("%s shows %q, want %q", selector, got, text)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

func (b *browser) open(hash string) {
	b.t.Helper()
	b.js(fmt.Sprintf("location.hash = %q", hash))
}

func (b *browser) keys(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

func (b *browser) size(width, height int64, phone bool) {
	b.t.Helper()
	scale := 1.0
	if phone {
		scale = 2
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: scale, Mobile: phone})
}

func (b *browser) dark(dark bool) {
	b.t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// shot takes a picture of the whole page.
func (b *browser) shot(name string) {
	b.t.Helper()
	if b.screen == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Errorf("picture %s: %v", name, err)
		return
	}
	b.must(os.MkdirAll(b.screen, 0o755))
	b.must(os.WriteFile(filepath.Join(b.screen, name+".png"), picture, 0o644))
}

// shots takes a page's pictures as desktop and phone, light and dark.
func (b *browser) shots(name string) {
	b.t.Helper()
	if b.screen == "" {
		return
	}
	for _, phone := range []bool{false, true} {
		device := "desktop"
		if phone {
			device = "phone"
			b.size(390, 844, true)
		}
		for _, dark := range []bool{false, true} {
			b.dark(dark)
			b.frames()
			theme := "light"
			if dark {
				theme = "dark"
			}
			b.shot(fmt.Sprintf("%s-%s-%s", name, device, theme))
		}
		if wide, _ := b.js("document.documentElement.scrollWidth > innerWidth").(bool); wide {
			b.t.Errorf("%s is wider than a %s", name, device)
		}
	}
	b.dark(false)
	b.size(1360, 900, false)
	b.frames()
}

// frames waits until what was changed is drawn.
func (b *browser) frames() {
	b.t.Helper()
	b.js("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))")
}

// enter is the key.
const enter = kb.Enter

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}

// arrow presses the left arrow.
func arrow() chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(kb.ArrowLeft) }

// allEntries is the whole ledger.
func (d *deployment) allEntries() (entries []settlement.Entry) {
	d.t.Helper()
	_, err := d.ledger().Walk(context.Background(), 0, func(s ledger.Stored) error {
		entries = append(entries, s.Entry)
		return s.Err
	})
	d.must(err)
	return entries
}
