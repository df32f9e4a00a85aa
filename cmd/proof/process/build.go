package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs are the paths of what is run as processes.
type Programs struct {
	Root    string // of the module's tree
	Settled string
	NATS    string
}

const natsModule = "github.com/nats-io/nats-server/v2"

// Build builds settled from the tree and nats-server from the module's own
// dependency, into build/bin of the tree.
func Build(ctx context.Context) (Programs, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return Programs{}, err
	}
	bin := filepath.Join(root, "build", "bin")
	p := Programs{Root: root, Settled: filepath.Join(bin, "settled"), NATS: filepath.Join(bin, "nats-server")}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return p, err
	}
	for path, pkg := range map[string]string{p.Settled: "./cmd/settled", p.NATS: natsModule} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
		cmd.Dir, cmd.Stderr = root, os.Stderr
		if err := cmd.Run(); err != nil {
			return p, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	return p, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w: run this inside settled's tree", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// NATSVersion is the version of nats-server that is run.
func (p Programs) NATSVersion() string {
	out, err := exec.Command(p.NATS, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "nats-server: ")
}
