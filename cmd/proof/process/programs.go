package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Programs are the paths of the programs that are run as processes.
type Programs struct {
	Root    string // of the module's tree
	Settled string
	NATS    string
}

// Run builds the programs and calls run, whose context ends with SIGINT or SIGTERM.
// It returns the exit status: 0 if run reports success.
func Run(name string, stderr io.Writer, run func(context.Context, Programs) (ok bool, err error)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok := false
	programs, err := build(ctx)
	if err == nil {
		ok, err = run(ctx, programs)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// build builds settled from the tree, and nats-server from the version that go.mod
// requires, into build/bin of the tree.
func build(ctx context.Context) (Programs, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("find the module: %w: run this command inside settled's tree", err)
	}
	root := strings.TrimSpace(string(out))
	bin := filepath.Join(root, "build", "bin")
	p := Programs{Root: root, Settled: filepath.Join(bin, "settled"), NATS: filepath.Join(bin, "nats-server")}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return p, err
	}
	for path, pkg := range map[string]string{p.Settled: "./cmd/settled", p.NATS: "github.com/nats-io/nats-server/v2"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
		cmd.Dir, cmd.Stderr = root, os.Stderr
		if err := cmd.Run(); err != nil {
			return p, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	return p, nil
}

// NATSVersion returns the version of nats-server, or "unknown".
func (p Programs) NATSVersion() string {
	out, err := exec.Command(p.NATS, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "nats-server: ")
}
