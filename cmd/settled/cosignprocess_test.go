package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"settled/cmd/settled/internal/cosigner"
)

// The command as the other party runs it, in a process of its own: one JSON object
// an answer on stdout, health over HTTP, and a quiet end at SIGTERM.
func TestCosignProcess(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	quickCosign(d)
	partner := d.key("partner")
	file := filepath.Join(d.dir, "partner.yaml")
	d.must(os.WriteFile(file, fmt.Appendf(nil, `
nats: {url: %q}
clearnode: {url: %q, key_files: [%q], message_expiry: %s, request_validity: %s, fence_margin: %s, connections: 2}
http: {listen: "127.0.0.1:0"}
log: {format: json}
`, d.cfg.NATSURL, d.cfg.NodeURL, filepath.Join(d.dir, "partner.key"), testExpiry, testValidity, testMargin), 0o600))
	self, err := os.Executable()
	d.must(err)
	cmd := exec.Command(self, "cosign", "--config", file, "--output", "json")
	cmd.Env = append(os.Environ(), runAsSettled+"=1")
	var log lockedBuffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	d.must(err)
	d.must(cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	answers := make(chan cosigner.Result, 1000)
	go func() {
		defer close(answers)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var a cosigner.Result
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
				t.Errorf("%s: %v", lines.Text(), err)
			}
			answers <- a
		}
	}()
	served := regexp.MustCompile(`"addr":"([^"]+)"`)
	d.until("it is ready", func() bool {
		at := served.FindStringSubmatch(log.String())
		if at == nil {
			return false
		}
		answer, err := http.Get("http://" + at[1] + "/readyz")
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	})
	d.serve()
	session := d.openShared(100, share{d.judge, 50}, share{partner, 50})
	d.wantClosed(session, d.publish("partial_service", "a", session, d.partial()))
	d.must(cmd.Process.Signal(syscall.SIGTERM))
	var last cosigner.Result
	for a := range answers {
		last = a
	}
	if err := cmd.Wait(); err != nil || last.Answer != "signed" || last.Session != session || last.Address != addressOf(partner) {
		t.Errorf("%v; the last answer was %+v; %s", err, last, log.String())
	}
	d.verify(1)
}
