package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"settled/cmd/settled/internal/service"
	"settled/consumer/operations"
)

// backupCommands are the commands of the runbook's chapter, in their order.
func backupCommands(t *testing.T) (commands []string) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	must(t, err)
	_, chapter, _ := strings.Cut(string(text), "\n## Backup and restore\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(chapter, -1) {
		commands = append(commands, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return commands
}

// TestRunbookBackupAndRestore does what the chapter says, command by command: those of
// `nats` by the requests that it makes, `cp` and `rm` by a shell, settled's own as they are.
func TestRunbookBackupAndRestore(t *testing.T) {
	t.Parallel()
	commands := backupCommands(t)
	has := func(part string) bool {
		for _, c := range commands {
			if strings.Contains(c, part) {
				return true
			}
		}
		return false
	}
	for _, part := range []string{"nats stream backup SETTLEMENTS", "nats stream restore", "cp -a", "settled serve --after-restore", "settled serve --embedded --after-restore", "settled ledger verify", "settled reconcile"} {
		if !has(part) {
			t.Errorf("the chapter has no %s", part)
		}
	}
	d := deploy(t)
	d.cfg.NATSStateDir = filepath.Join(d.dir, "state")
	s, stop := d.serve()
	first := d.open()
	d.result(first, d.publish("partial_service", "first", first, d.partial()))
	copies := map[string]snapshot{}
	var e *embeddedHost
	audit := func() {
		if e == nil {
			d.verify(1)
		} else {
			e.verify(1)
		}
	}
	for _, c := range commands {
		words := strings.Fields(c)
		switch {
		case strings.HasPrefix(c, "nats stream backup "):
			copies[words[4]] = takeSnapshot(t, d.nats.Conn, words[3])
		case strings.HasPrefix(c, "nats stream rm -f "):
			stop() // "with every settled stopped"
			d.must(d.nats.JS.DeleteStream(t.Context(), words[4]))
		case strings.HasPrefix(c, "nats stream restore "):
			copied, found := copies[words[3]]
			if !found {
				t.Fatalf("%s: nothing was backed up there", c)
			}
			copied.restore(t, d.nats.Conn)
		case c == "settled serve --after-restore":
			d.cfg.AfterRestore = true
			s, stop = d.begin()
			d.until("it sends nothing", func() bool {
				err := s.Ready()
				return err != nil && strings.Contains(err.Error(), "--after-restore") || s.Held(service.HeldByLoss)
			})
			d.until("it is over", func() bool { return s.Ready() == nil })
			d.verify(1)
		case strings.HasPrefix(c, "cp -a data "), strings.HasPrefix(c, "rm -rf data"), strings.HasPrefix(c, "cp -a backup/"):
			if e == nil {
				e = embeddedInData(t)
				e.must(os.Mkdir(filepath.Join(e.dir, "backup"), 0o700))
			}
			shell := exec.Command("sh", "-ec", c) // #nosec G204 -- of our runbook
			shell.Dir = e.dir
			if out, err := shell.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c, err, out)
			}
		case c == "settled serve --embedded --after-restore":
			e.start(words[3:]...)
			e.until("it sends nothing", func() bool { _, body := e.readyz(); return strings.Contains(body, "held until") })
			e.ready()
		case c == "settled ledger verify", c == "settled reconcile":
			audit()
		default:
			t.Errorf("nobody tries this command: %s", c)
		}
	}
	if l, err := operations.New(d.nats.JS, d.cfg.Consumer()).Stopped(context.Background()); err != nil || l != nil {
		t.Errorf("stopped: %v, %v", l, err)
	}
}

// embeddedInData has served one outcome from a store called data, and is stopped.
func embeddedInData(t *testing.T) *embeddedHost {
	t.Helper()
	e := newEmbeddedHost(t)
	e.store = filepath.Join(e.dir, "data")
	e.cfg.EmbeddedStoreDir = e.store
	e.start()
	e.ready()
	session := e.open()
	e.result(session, e.publish("partial_service", "x", session, e.partial()))
	e.end(os.Interrupt)
	return e
}
