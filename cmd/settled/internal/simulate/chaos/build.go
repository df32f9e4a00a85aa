package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are the paths of what is run as processes.
type programs struct {
	root    string // of the module's tree
	settled string
	nats    string
}

const natsModule = "github.com/nats-io/nats-server/v2"

// buildPrograms builds settled from the tree and nats-server from the module's own
// dependency, into build/chaos/bin.
func buildPrograms(ctx context.Context) (programs, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return programs{}, err
	}
	bin := filepath.Join(root, "build", "chaos", "bin")
	p := programs{root: root, settled: filepath.Join(bin, "settled"), nats: filepath.Join(bin, "nats-server")}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return p, err
	}
	for path, pkg := range map[string]string{p.settled: "./cmd/settled", p.nats: natsModule} {
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

// natsVersion is the version of nats-server that is run.
func (p programs) natsVersion() string {
	out, err := exec.Command(p.nats, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "nats-server: ")
}
