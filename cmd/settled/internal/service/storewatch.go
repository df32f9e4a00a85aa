package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/host"
)

const (
	// storeWatchInterval is how often the embedded server's store is examined.
	storeWatchInterval = time.Second
	// storeSpace is how many bytes must be free in the store.
	storeSpace = 256 << 10
)

// storeWatch examines the embedded server's store while it runs. A nil one finds nothing.
type storeWatch struct {
	ns     *server.Server
	dir    string
	folder storeRecord // of the streams' folder when the watch began
	log    zerolog.Logger

	mu  sync.Mutex
	err error // what was found last; nil where all is well
}

func newStoreWatch(ns *server.Server, dir string, log zerolog.Logger) *storeWatch {
	w := &storeWatch{ns: ns, dir: dir, log: log}
	w.folder = recordOf(w.streams())
	return w
}

func (w *storeWatch) streams() string { return filepath.Join(w.dir, server.JetStreamStoreDir) }

// run examines the store until ctx ends. It calls failed once the server must be restarted
// and the store can be written.
func (w *storeWatch) run(ctx context.Context, failed func(error)) {
	for background.Sleep(ctx, storeWatchInterval) {
		err := w.examine()
		w.record(err)
		if errors.Is(err, host.ErrStoreFailed) && w.tryWrite() == nil {
			failed(err)
			return
		}
	}
}

// record keeps the result of a check, and logs changes.
func (w *storeWatch) record(err error) {
	w.mu.Lock()
	before := w.err
	w.err = err
	w.mu.Unlock()
	switch {
	case err == nil && before != nil:
		w.log.Info().Msg("the embedded server's store can be used again")
	case err != nil && (before == nil || before.Error() != err.Error()):
		w.log.Error().Err(err).Msg("the embedded server's store can't be used: nothing is sent")
	}
}

func (w *storeWatch) examine() error {
	is := recordOf(w.streams())
	if _, err := os.Stat(w.streams()); err != nil || is != w.folder {
		return fmt.Errorf("embedded.store_dir: %s was removed or replaced while settled runs, so that what is stored now may be lost: put the folder back, or stop settled and restore a backup (see Backup and restore in deploy/RUNBOOK.md)", w.streams())
	}
	if health := w.ns.Healthz(nil); health.Status != "ok" {
		return fmt.Errorf("%w: %s: the server is started again once there is space on the disk of %s", host.ErrStoreFailed, health.Error, w.dir)
	}
	if err := w.tryWrite(); err != nil {
		return fmt.Errorf("embedded.store_dir: %d bytes can't be written to the disk of %s: %w", storeSpace, w.dir, err)
	}
	return nil
}

// tryWrite writes as many bytes as must be free, and removes them.
func (w *storeWatch) tryWrite() error {
	f, err := os.CreateTemp(w.dir, ".settled-space.*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, storeSpace))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// problem returns the error of the last check.
func (w *storeWatch) problem() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
