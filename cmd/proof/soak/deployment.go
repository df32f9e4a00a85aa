package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
)

// deployment is one nats-server, one settled, and the node.
type deployment struct {
	stage   *stage
	nats    *process.Process
	settled *process.Process
	nc      *nats.Conn
	js      jetstream.JetStream
	http    string // settled's, http://host:port
}

const natsConf = `listen: "127.0.0.1:%d"
jetstream { store_dir: %q, max_file_store: 64GB, max_memory_store: 64MB%s }
`

// settledConf is the configuration that is deployed, but for where everything is.
const settledConf = `nats: {url: %q}
clearnode:
  url: %q
  protocol: %s
  node_address: %q
  key_files: [%q]
  rate_limit: %d
  rate_burst: %d
http: {listen: "127.0.0.1:%d"}
policies:
  no_show:
    - {to: provider, share: "0.5"}
    - {to: funders, share: remaining}
log: {level: info, format: json}
`

// deploy starts everything, and waits until outcomes can be settled.
func deploy(ctx context.Context, o options, p process.Programs, dir string) (d *deployment, err error) {
	d = &deployment{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.stage, err = newStage(o.Protocol, dir); err != nil {
		return d, err
	}
	port, err := d.startNATS(o, p, dir)
	if err != nil {
		return d, err
	}
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	if d.nc, err = nats.Connect(url, nats.Name("soak"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true)); err != nil {
		return d, err
	}
	if d.js, err = jetstream.New(d.nc); err != nil {
		return d, err
	}
	if err := d.startSettled(o, p, dir, url); err != nil {
		return d, err
	}
	return d, d.ready(ctx)
}

func (d *deployment) startNATS(o options, p process.Programs, dir string) (port int, err error) {
	if port, err = process.FreePort(); err != nil {
		return 0, err
	}
	sync := ""
	if o.Synced {
		sync = ", sync_interval: always"
	}
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, natsConf, port, filepath.Join(dir, "jetstream"), sync), 0o600); err != nil {
		return 0, err
	}
	d.nats = process.New(dir, "nats-server", p.NATS, []string{"-c", conf}, nil)
	return port, d.nats.Start()
}

// A nitronode's limit on frames is off at the node, and so settled keeps to none.
const noRate = 1_000_000

func (d *deployment) startSettled(o options, p process.Programs, dir, url string) error {
	port, err := process.FreePort()
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "settled.yaml")
	text := fmt.Sprintf(settledConf, url, d.stage.node.URL(), o.Protocol, d.stage.node.Address().Hex(), d.stage.keyFile, noRate, noRate, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	d.http = fmt.Sprintf("http://127.0.0.1:%d", port)
	d.settled = process.New(dir, "settled", p.Settled, []string{"serve", "--config", conf}, nil)
	return d.settled.Start()
}

// ready waits until settled says that it is.
func (d *deployment) ready(ctx context.Context) error {
	why := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if why = process.WhyNotReady(ctx, d.http+"/readyz"); why == "" {
			return nil
		}
		if ended := d.settled.Surprises(); len(ended) > 0 {
			return fmt.Errorf("settled ended: %s", ended[0])
		}
		if !process.Pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("settled isn't ready after a minute: %s", why)
}

// ended says which process ended by itself; nil: none.
func (d *deployment) ended() error {
	for _, p := range []*process.Process{d.nats, d.settled} {
		if how := p.Surprises(); len(how) > 0 {
			return fmt.Errorf("%s ended: %s", p.Name, how[0])
		}
	}
	return nil
}

// close ends whatever runs.
func (d *deployment) close() {
	if d.settled != nil {
		d.settled.Kill()
	}
	if d.nc != nil {
		d.nc.Close()
	}
	if d.nats != nil {
		d.nats.Kill()
	}
	if d.stage != nil && d.stage.node != nil {
		_ = d.stage.node.Close()
	}
}
