package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the architecture: arrows point at settlement. Beside the standard
// library each package imports only what stands here.
var mayImport = map[string][]string{
	"settlement": {"settled/settlement/spelling", "github.com/shopspring/decimal", "github.com/ethereum/go-ethereum/common", "github.com/go-json-experiment/json/jsontext"},
	// What a misspelt name was meant to be, in outcomes and in the configuration.
	"settlement/spelling": {},
	"clearnode":           {"settled/settlement", "settled/clearnode/internal", "github.com/gorilla/websocket", "github.com/ethereum/go-ethereum", "github.com/rs/zerolog", "golang.org/x/time/rate"},
	// The generations of the node's protocol know no client. The legacy protocol is an
	// earlier form of NitroRPC, and shares its frames.
	"clearnode/internal/protocol":     {"settled/settlement", "github.com/ethereum/go-ethereum", "github.com/rs/zerolog"},
	"clearnode/internal/protocoltest": {"settled/settlement", "settled/clearnode/internal/protocol", "github.com/ethereum/go-ethereum"},
	"clearnode/internal/nitrorpc":     {"settled/settlement", "settled/clearnode/internal/protocol", "github.com/ethereum/go-ethereum"},
	"clearnode/internal/legacy":       {"settled/settlement", "settled/clearnode/internal/protocol", "settled/clearnode/internal/nitrorpc", "github.com/ethereum/go-ethereum"},
	"clearnode/internal/nitronode":    {"settled/settlement", "settled/clearnode/internal/protocol", "github.com/ethereum/go-ethereum"},
	// Decimal, because the real node takes amounts that settlement's one parser refuses.
	"clearnode/clearnodetest":                    {"settled/clearnode/clearnodetest/internal", "github.com/ethereum/go-ethereum/common", "github.com/shopspring/decimal"},
	"clearnode/clearnodetest/internal/server":    {"github.com/gorilla/websocket", "github.com/ethereum/go-ethereum", "github.com/shopspring/decimal"},
	"clearnode/clearnodetest/internal/nitrorpc":  {"settled/clearnode/clearnodetest/internal/server", "github.com/ethereum/go-ethereum", "github.com/shopspring/decimal"},
	"clearnode/clearnodetest/internal/legacy":    {"settled/clearnode/clearnodetest/internal/server", "github.com/ethereum/go-ethereum", "github.com/shopspring/decimal"},
	"clearnode/clearnodetest/internal/nitronode": {"settled/clearnode/clearnodetest/internal/server", "github.com/ethereum/go-ethereum", "github.com/shopspring/decimal", "golang.org/x/time/rate"},
	"ledger":            {"settled/settlement", "settled/ledger/streamreader", "github.com/nats-io/nats.go", "github.com/hashicorp/golang-lru/v2", "golang.org/x/sync/errgroup"},
	"ledger/ledgertest": {"settled/settlement", "settled/ledger", "settled/ledger/streamreader", "github.com/nats-io/nats.go"},
	// One reader of streams for all that list or follow one. It knows no ledger.
	"ledger/streamreader": {"github.com/nats-io/nats.go"},
	"consumer":            {"settled/settlement", "settled/consumer/cloudevent", "settled/consumer/internal/refresh", "settled/ledger/streamreader", "github.com/nats-io/nats.go", "github.com/rs/zerolog"},
	"consumer/cloudevent": {"settled/settlement", "github.com/nats-io/nats.go"},
	// The records of operators, and the dead letters above them.
	"consumer/operations":       {"settled/settlement", "settled/consumer", "settled/ledger/streamreader", "github.com/nats-io/nats.go"},
	"consumer/deadletter":       {"settled/settlement", "settled/consumer", "settled/ledger/streamreader", "github.com/nats-io/nats.go"},
	"consumer/internal/refresh": {"github.com/nats-io/nats.go"},
	"consumer/internal/publish": {"settled/ledger/streamreader", "github.com/nats-io/nats.go"},
	// The parts of the command, from the ground up.
	"cmd/settled/internal/terminal": {"settled/settlement", "golang.org/x/time/rate"},
	"cmd/settled/internal/config": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger",
		"github.com/nats-io/nats.go", "github.com/spf13", "go.yaml.in/yaml/v3",
	},
	"cmd/settled/internal/audit": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger",
		"settled/cmd/settled/internal/background", "settled/cmd/settled/internal/config", "settled/cmd/settled/internal/natsconn", "settled/cmd/settled/internal/terminal",
		"github.com/nats-io/nats.go", "golang.org/x/time/rate",
	},
	"cmd/settled/internal/host": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/cmd/settled/internal/background", "settled/cmd/settled/internal/config", "settled/cmd/settled/internal/terminal",
		"github.com/prometheus/client_golang", "github.com/rs/zerolog",
	},
	"cmd/settled/internal/cosigner": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger",
		"settled/cmd/settled/dashboard", "settled/cmd/settled/internal/background", "settled/cmd/settled/internal/config", "settled/cmd/settled/internal/host",
		"settled/cmd/settled/internal/natsconn", "settled/cmd/settled/internal/telemetry", "settled/cmd/settled/internal/terminal",
		"github.com/ethereum/go-ethereum/common", "github.com/go-json-experiment/json", "github.com/hashicorp/golang-lru/v2", "github.com/nats-io/nats.go", "github.com/rs/zerolog", "github.com/prometheus/client_golang",
	},
	"cmd/settled/internal/service": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger", "settled/cmd/settled/dashboard",
		"settled/cmd/settled/internal",
		"github.com/nats-io", "github.com/rs/zerolog", "github.com/prometheus/client_golang", "golang.org/x/sys", "golang.org/x/time/rate",
	},
	"cmd/settled/internal/demo": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger", "settled/cmd/settled/internal",
		"github.com/ethereum/go-ethereum/crypto", "github.com/nats-io/nats.go", "github.com/rs/zerolog", "github.com/shopspring/decimal",
	},
	"cmd/settled/internal/doctor": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger", "settled/cmd/settled/internal",
		"github.com/nats-io", "golang.org/x/sys",
	},
	"cmd/settled/internal/bench": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger", "settled/cmd/settled/internal/terminal",
		"github.com/HdrHistogram/hdrhistogram-go", "github.com/ethereum/go-ethereum", "github.com/gorilla/websocket", "github.com/nats-io",
		"github.com/shopspring/decimal", "golang.org/x/sync/errgroup", "golang.org/x/time/rate",
	},
	"cmd/settled/internal/sim": {
		"settled/settlement", "settled/clearnode/clearnodetest", "settled/cmd/settled/internal/natsconn", "settled/cmd/settled/internal/terminal",
		"github.com/ethereum/go-ethereum/common", "github.com/shopspring/decimal",
	},
	"cmd/settled/internal/background": {},
	"cmd/settled/internal/runbook":    {"settled/deploy", "settled/settlement"},
	"cmd/settled/internal/status": {
		"settled/settlement", "settled/consumer", "settled/ledger", "settled/cmd/settled/internal/runbook", "settled/cmd/settled/internal/terminal",
		"github.com/nats-io/nats.go",
	},
	"cmd/settled/internal/policies": {"settled/settlement"},
	// Generates the schemas; only tests import it.
	"cmd/settled/internal/schematest": {"settled/settlement", "settled/consumer/operations", "github.com/google/jsonschema-go", "github.com/santhosh-tekuri/jsonschema/v6", "github.com/shopspring/decimal"},
	"cmd/settled/internal/telemetry": {
		"settled/settlement", "settled/clearnode", "settled/consumer", "settled/ledger",
		"settled/cmd/settled/internal/background", "settled/cmd/settled/internal/config", "settled/cmd/settled/internal/status", "settled/cmd/settled/internal/terminal",
		"github.com/nats-io/nats.go", "github.com/rs/zerolog", "github.com/prometheus/client_golang", "go.opentelemetry.io", "github.com/go-logr/logr",
	},
	"cmd/settled/internal/natsconn": {
		"settled/clearnode", "settled/cmd/settled/internal/background", "settled/cmd/settled/internal/config", "settled/consumer", "settled/deploy", "settled/ledger", "settled/ledger/streamreader",
		"github.com/nats-io", "github.com/rs/zerolog",
	},
}

func TestImports(t *testing.T) {
	for folder, allowed := range mayImport {
		for _, file := range sources(t, folder) {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			must(t, err)
			for _, spec := range parsed.Imports {
				path, _ := strconv.Unquote(spec.Path.Value)
				first, _, _ := strings.Cut(path, "/")
				if !strings.Contains(first, ".") && first != "settled" {
					continue // the standard library
				}
				if !slices.ContainsFunc(allowed, func(a string) bool { return path == a || strings.HasPrefix(path, a+"/") }) {
					t.Errorf("%s imports %s: %s may import only %v", file, path, folder, allowed)
				}
			}
		}
	}
}

// settlement has no clock, no randomness, no goroutine and no float of its own.
func TestSettlementIsPure(t *testing.T) {
	forbidden := regexp.MustCompile(`time\.(Now|Sleep|After|Since|NewTimer)\b|\bfloat(32|64)\b|"math/rand|"crypto/rand"|^\s*go (func|[a-z])|"os"`)
	for _, file := range sources(t, "settlement") {
		text, err := os.ReadFile(file)
		must(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			if code, _, _ := strings.Cut(line, "//"); forbidden.MatchString(code) {
				t.Errorf("%s:%d: %s", file, i+1, strings.TrimSpace(line))
			}
		}
	}
}

func sources(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", folder, "*.go"))
	must(t, err)
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
	if len(files) == 0 {
		t.Fatalf("no sources in %s", folder)
	}
	return files
}
