package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"settled/clearnode"
	"settled/cmd/settled/internal/natsconn"
	"settled/settlement"
)

// checkSecretFiles checks every file with a secret, and the keys.
func (d *Doctor) checkSecretFiles() {
	for _, secret := range []struct{ key, path string }{
		{"nats.credentials_file", d.Cfg.NATSCredentialsFile}, {"nats.nkey_file", d.Cfg.NATSNKeyFile}, {"nats.tls.key", d.Cfg.NATSKeyFile},
		{"clearnode.password_file", d.Cfg.NodePasswordFile}, {"http.token_file", d.Cfg.HTTPTokenFile},
	} {
		if secret.path == "" {
			continue
		}
		if err := clearnode.CheckSecretFile(secret.path); err != nil {
			d.fail(secret.key, modeAdvice(secret.path), "%s", err)
		} else {
			d.ok(secret.key, "%s exists with safe permissions", secret.path)
		}
	}
	if len(d.Cfg.NodeKeyFiles) == 0 {
		d.fail("keys", "clearnode.key_files: [judge.key]", "clearnode.key_files is not set: no key signs a close")
	}
	for _, path := range d.Cfg.NodeKeyFiles {
		d.checkKey(path)
	}
}

// checkKey loads a key file. Loading a key also makes a test signature.
func (d *Doctor) checkKey(path string) {
	signer, err := clearnode.LoadKeyFile(path, d.Cfg.NodePasswordFile)
	if err != nil {
		d.fail("keys", keyAdvice(path), "%s", err)
		return
	}
	twice := slices.ContainsFunc(d.signers, func(s clearnode.Signer) bool { return s.Address() == signer.Address() })
	if twice {
		d.fail("keys", "clearnode.key_files: name each key once", "%s contains the key of %s, which another file contains too", path, signer.Address())
		return
	}
	d.signers, d.keyFiles = append(d.signers, signer), append(d.keyFiles, path)
	d.ok("keys", "%s signs for %s", path, signer.Address())
}

func modeAdvice(path string) string {
	return "chmod 600 " + path + "; or 440 if root owns the file and settled's group may read it"
}

func keyAdvice(path string) string {
	if _, err := os.Stat(path); err != nil {
		return "clearnode.key_files: name files that exist"
	}
	if clearnode.CheckSecretFile(path) != nil {
		return modeAdvice(path)
	}
	return "clearnode.key_files: 64 hex digits, or a keystore file with clearnode.password_file"
}

// addresses returns our accounts. The first one signs in.
func (d *Doctor) addresses() []settlement.Address {
	var all []settlement.Address
	for _, s := range d.signers {
		all = append(all, s.Address())
	}
	return all
}

// checkRunningService checks whether a service runs on this machine, and whether it is ready.
func (d *Doctor) checkRunningService(ctx context.Context) {
	if _, port, err := net.SplitHostPort(d.Cfg.HTTPListen); err != nil || port == "0" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+natsconn.Reachable(d.Cfg.HTTPListen)+"/readyz", nil)
	if err != nil {
		d.fail("serve", "http.listen: 127.0.0.1:8090", "http.listen: %s", err)
		return
	}
	command := "settled serve"
	if d.Cosign {
		command = "settled cosign"
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		d.note("serve", "", "no `%s` answers at %s: it does not run here, or http.listen differs", command, d.Cfg.HTTPListen)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	var state struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	switch err := json.NewDecoder(answer.Body).Decode(&state); {
	case err != nil || state.OK == nil:
		d.fail("serve", "http.listen: an address that is free", "another program answers at %s", d.Cfg.HTTPListen)
	case !*state.OK:
		d.warn("serve", "", "a `%s` runs here and is not ready: %s", command, state.Error)
	default:
		d.ok("serve", "a `%s` runs here and is ready", command)
	}
}

// The store of an embedded server.
const (
	leastSpace = 1 << 30 // bytes free; the ledger of a million sessions takes 0.6 GB on disk
	slowSync   = 50 * time.Millisecond
	syncTries  = 8
)

// checkStore checks the disk of the embedded server, which syncs every message, three or more
// for each settlement.
func (d *Doctor) checkStore() {
	dir := d.Cfg.EmbeddedStoreDir
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		d.note("embedded.store_dir", "", "%s is not there yet: `settled serve --embedded` makes it", dir)
		dir = filepath.Dir(filepath.Clean(dir))
	}
	if free, kind, known := diskOf(dir); known {
		d.checkSpace(dir, free, kind)
	}
	took, err := syncTime(dir)
	switch {
	case err != nil:
		d.fail("embedded.sync", "embedded.store_dir: a directory that settled may write to", "%s can't be written and synced: %s", dir, err)
	case took > slowSync:
		d.warn("embedded.sync", "embedded.store_dir: a faster disk", "a sync takes %s, and each settlement waits for three or more", took.Round(time.Millisecond))
	default:
		d.ok("embedded.sync", "a sync takes %s", took.Round(10*time.Microsecond))
	}
}

func (d *Doctor) checkSpace(dir string, free uint64, kind string) {
	switch {
	case kind != "":
		d.warn("embedded.disk", "embedded.store_dir: a directory on a local disk", "%s is on %s: the ledger is not safe there", dir, kind)
	case free < leastSpace:
		d.warn("embedded.disk", "embedded.store_dir: a larger disk", "%s has %d MiB left; the ledger of a million sessions takes 0.6 GB on disk", dir, free>>20)
	default:
		d.ok("embedded.disk", "%s has %d MiB left", dir, free>>20)
	}
}

// syncTime returns the slowest of a few small synced writes.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".settled-doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	var slowest time.Duration
	for range syncTries {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("sync: %w", err)
		}
		slowest = max(slowest, time.Since(began))
	}
	return slowest, nil
}
