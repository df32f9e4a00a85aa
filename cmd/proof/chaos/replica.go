package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"settled/cmd/proof/process"
)

// How the replicas and the node are set: everything that waits waits for seconds
// where it waits for a minute in production, in the same order of lengths.
const (
	ackWait       = 5 * time.Second
	messageExpiry = 8 * time.Second
	validity      = 3 * time.Second
	fenceMargin   = 4 * time.Second
	nodeWork      = 20 * time.Millisecond // of a close, between its checks and its commit
	longestStall  = 2 * time.Second       // of the same; well below the margin, as the margin must be chosen
	stopsWithin   = 15 * time.Second      // of SIGTERM, by contract
)

// maxAttempts is beyond what any outcome needs here, so that an outcome that can be
// settled and isn't shows.
const maxAttempts = 200

// replica is one `settled serve`, with its own way to the node.
type replica struct {
	*process.Process
	node  *proxy
	ready string // URL
}

func replicaName(i int) string { return fmt.Sprintf("settled-%d", i+1) }

const replicaConf = `nats: {url: %q, replicas: %d}
clearnode:
  url: %q
  protocol: %s
  node_address: %q
  key_files: [%q]
  connections: 3
  rate_limit: 1000
  rate_burst: 1000
  request_timeout: 4s
  message_expiry: %s
  request_validity: %s
  fence_margin: %s
consumer: {ack_wait: %s, workers: 24, max_attempts: %d, backoff: {initial: 200ms, max: 5s}}
http: {listen: "127.0.0.1:%d"}
policies:
  no_show:
    - {to: provider, share: "0.5"}
    - {to: funders, share: remaining}
log: {level: info, format: json}
`

// newReplica writes the configuration of a replica; nothing runs yet.
func (r *run) newReplica(i int) (*replica, error) {
	name := replicaName(i)
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	node, err := openProxy(r.stage.nodeHost())
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.dir, name+".yaml")
	text := fmt.Sprintf(replicaConf, r.cluster.url(name, "settled"), servers, "ws://"+node.address()+"/ws", r.protocol, r.stage.node.Address().Hex(), r.stage.keyFile,
		messageExpiry, validity, fenceMargin, ackWait, maxAttempts, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return &replica{
		Process: process.New(r.logs, name, r.programs.Settled, []string{"serve", "--config", file}, nil),
		node:    node, ready: fmt.Sprintf("http://127.0.0.1:%d/readyz", port),
	}, nil
}

// whyNotReady asks the replica; "" is ready.
func (r *replica) whyNotReady(ctx context.Context) string { return process.WhyNotReady(ctx, r.ready) }
