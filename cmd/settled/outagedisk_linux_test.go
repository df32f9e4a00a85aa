package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

// smallDisk mounts a file system of its own over a new folder, or skips the test where
// that is not permitted.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small file system can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk takes what is left of a disk; freeDisk gives it back.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	must(t, f.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func freeDisk(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Remove(filepath.Join(dir, "filler")))
}

// The embedded server can lose its disk and its folder; it is started again, in the
// same process, where a write failed.
func TestOutagesOfTheEmbeddedServer(t *testing.T) {
	serve := longRunning{args: []string{"serve", "--embedded"}, works: (*outage).settlesEmbedded, health: true}
	for _, l := range []loss{
		nodeLoss,
		{name: "space on its disk", begin: func(o *outage) { fillDisk(o.t, o.disk) }, end: func(o *outage) { freeDisk(o.t, o.disk) }},
		{name: "space for an outcome", begin: (*outage).failWrite, end: func(o *outage) { freeDisk(o.t, o.disk) }, later: true},
		{name: "its folder", begin: func(o *outage) { o.must(os.Rename(o.cfg.EmbeddedStoreDir, o.cfg.EmbeddedStoreDir+".away")) },
			end: func(o *outage) {
				o.must(os.RemoveAll(o.cfg.EmbeddedStoreDir))
				o.must(os.Rename(o.cfg.EmbeddedStoreDir+".away", o.cfg.EmbeddedStoreDir))
			}, later: true},
	} {
		t.Run("without "+l.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			embeddedOutage(t).walk(serve, l)
		})
	}
}

// embeddedOutage is an outage with an embedded server whose store is on a disk of its own.
func embeddedOutage(t *testing.T) *outage {
	t.Helper()
	disk := smallDisk(t)
	o := &outage{deployment: deploy(t), log: &lockedBuffer{}, out: &lockedBuffer{}, disk: disk}
	o.cfg.Embedded, o.cfg.EmbeddedStoreDir, o.cfg.EmbeddedListen = true, filepath.Join(disk, "store"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	return o
}

// failWrite publishes to a full disk until a stream of the embedded server has failed.
func (o *outage) failWrite() {
	o.t.Helper()
	fillDisk(o.t, o.disk)
	nc, err := nats.Connect("nats://" + o.cfg.EmbeddedListen)
	o.must(err)
	defer nc.Close()
	o.until("a write fails", func() bool {
		_, err := nc.Request("outcome.cancellation", make([]byte, 4096), patience/100)
		return err != nil
	})
}

// settlesEmbedded: an outcome that a client of the embedded server publishes is settled.
func (o *outage) settlesEmbedded() {
	o.t.Helper()
	nc, err := nats.Connect("nats://" + o.cfg.EmbeddedListen)
	o.must(err)
	defer nc.Close()
	session := o.open()
	data := o.partial()
	data["session_id"] = session
	event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": session, "source": "/test", "type": "outcome.partial_service", "data": data})
	o.must(err)
	results, err := nc.SubscribeSync("settlement.closed." + string(session))
	o.must(err)
	o.until("the outcome is stored", func() bool {
		m, err := nc.Request("outcome.partial_service", event, patience/100)
		return err == nil && json.Unmarshal(m.Data, &struct{ Seq uint64 }{}) == nil
	})
	m, err := results.NextMsg(patience)
	o.must(err)
	var e struct{ Data settlement.Entry }
	o.must(json.Unmarshal(m.Data, &e))
	if s, _ := o.deployment.node.Session(string(session)); s.Status != "closed" || s.Closes != 1 {
		o.t.Errorf("session %s is %s after %d closes", session, s.Status, s.Closes)
	}
}
