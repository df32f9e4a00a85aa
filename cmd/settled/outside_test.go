package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"settled/clearnode/clearnodetest"
	"settled/cmd/proof/workload"
)

// outside is a process of its own with what settled talks to: a NATS server and a
// simulated node. Whatever this process allocates or computes is then settled's.
type outside struct {
	NATS, Node string // URLs
	KeyFile    string // of the account that may close every session

	in  io.Writer
	out *json.Decoder
}

// runAsOutside in the environment makes the test binary that process. Its value is the
// protocol of the node.
const runAsOutside = "TEST_RUN_AS_OUTSIDE"

// startOutside starts the process, with a number of sessions that stay open.
func startOutside(t testing.TB, protocol string, open int) *outside {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(program, dir, strconv.Itoa(open))
	cmd.Env, cmd.Stderr = append(os.Environ(), runAsOutside+"="+protocol), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	o := &outside{in: in, out: json.NewDecoder(out)}
	if err := o.out.Decode(o); err != nil {
		t.Fatal(err)
	}
	return o
}

// publish opens sessions, and publishes an outcome for each.
func (o *outside) publish(t testing.TB, sessions int) {
	t.Helper()
	if _, err := fmt.Fprintln(o.in, sessions); err != nil {
		t.Fatal(err)
	}
}

// check ends with an error of the node's own books.
func (o *outside) check(t testing.TB) {
	t.Helper()
	o.publish(t, 0)
	var problem string
	if err := o.out.Decode(&problem); err != nil || problem != "" {
		t.Errorf("the node: %s (%v)", problem, err)
	}
}

// mainOutside is the process.
func mainOutside(protocol string) error {
	dir := os.Args[1]
	open, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	node, err := workload.StartNode(protocol, dir, clearnodetest.Config{})
	if err != nil {
		return err
	}
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: filepath.Join(dir, "jetstream")})
	if err != nil {
		return err
	}
	ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(patience) {
		return fmt.Errorf("the server is not ready")
	}
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		return err
	}
	defer nc.Close()
	var pairs uint64
	openSession := func() (*workload.Outcome, error) {
		pairs++
		pair := workload.PairOf(pairs)
		id, err := node.OpenSession(pair)
		return node.NewOutcome(fmt.Sprint("outcome ", pairs), "reference", "payment_completed", pair).Encode(id, false), err
	}
	for range open {
		if _, err := openSession(); err != nil {
			return err
		}
	}
	reply := json.NewEncoder(os.Stdout)
	if err := reply.Encode(outside{NATS: ns.ClientURL(), Node: node.URL(), KeyFile: filepath.Join(dir, "arbiter.key")}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		sessions, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		for range sessions {
			o, err := openSession()
			if err != nil {
				return err
			}
			if _, err := nc.RequestMsg(o.Message(1), 10*time.Second); err != nil {
				return err
			}
		}
		if sessions == 0 {
			problem := ""
			if err := node.Check(); err != nil {
				problem = err.Error()
			}
			if err := reply.Encode(problem); err != nil {
				return err
			}
		}
	}
	return nil
}
