# settled: `make help` lists the targets.
SHELL := /bin/bash
ARGS ?=
# The tools are pinned here; the Go module proxy verifies what it delivers.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
ASYNCAPI_PARSER := @asyncapi/parser@3.6.6
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# RECORD=1 keeps the result of a long run; make record writes settlement/RELIABILITY.md from the kept results.
RUNS := cmd/proof/record/runs
KEEPRECORD = $(if $(RECORD),-record $(RUNS))

.DEFAULT_GOAL := help
.PHONY: help run build test proof lint vuln cover fuzz model simulate mutants hostile replays twins browser bench benchmarks bench-compare bench-baseline docs ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: build ## the demo, until Ctrl-C (ARGS=--once to exit when every outcome has its result)
	@./build/settled demo $(ARGS)

build: ## build the program into build/settled
	@mkdir -p build
	@go build -ldflags "-X main.version=$(VERSION)" -o build/settled ./cmd/settled

test: ## every test with the race detector, except the long ones (make proof)
	go test -race -short -parallel 4 -timeout 30m ./...

proof: ## the long tests: failure twins, hostile input, services on a cluster, replays, cmd/proof
	go test -count=1 -timeout 14m ./cmd/proof/...
	go test -count=1 -timeout 14m -run '^(TestTwins|TestHostileEvents|TestHostileNode|TestServicesOnACluster|TestReplayMany)$$' ./cmd/settled

lint: ## formatting, go vet, staticcheck, gosec and more (.golangci.yml), and whether go.mod is tidy
	go mod tidy -diff
	go run $(GOLANGCI_LINT) run ./...

vuln: ## known vulnerabilities in the dependencies
	go run $(GOVULNCHECK) ./...

cover: ## test coverage by package, as build/cover.html
	@mkdir -p build
	go test -coverprofile build/cover.out ./...
	go tool cover -html build/cover.out -o build/cover.html

FUZZTIME ?= 30s
fuzz: ## every fuzz target, FUZZTIME each (ONLY='a regular expression' for some)
	@go run ./cmd/proof/fuzz -time $(FUZZTIME) $(if $(ONLY),-only '$(ONLY)') $(KEEPRECORD)

model: ## every state of a small model of the settlement loop; writes the table in settlement/modelcheck/README.md
	@go run ./settlement/modelcheck -out settlement/modelcheck/README.md

SEEDS ?= 20000
SEED ?= 1
simulate: ## SEEDS schedules of faults in virtual time, from SEED on; TRACE=1 prints the steps of one (DIALECT=nitro|legacy|v1)
	@go run ./cmd/proof/schedules -seed $(SEED) -seeds $(SEEDS) $(if $(DIALECT),-dialect $(DIALECT)) $(if $(TRACE),-trace) $(KEEPRECORD)

mutants: ## deliberate defects, one at a time, each of which a test must catch; writes MUTANTS.md (ONLY=part of a name)
	@go run ./cmd/proof/mutants $(if $(ONLY),-only $(ONLY),-out cmd/proof/mutants/MUTANTS.md $(KEEPRECORD))

hostile: ## 100,000 malformed events between good ones (HOSTILE_EVENTS=…)
	$(if $(RECORD),RECORD_DIR=$(CURDIR)/$(RUNS)) HOSTILE_EVENTS=$${HOSTILE_EVENTS:-100000} go test -count=1 -run '^TestHostileEvents$$' -v -timeout 60m ./cmd/settled

replays: ## 10,000 dead letters replayed at a limited rate, interrupted, and resumed by two processes (REPLAY_LETTERS=…)
	REPLAY_LETTERS=$${REPLAY_LETTERS:-10000} go test -count=1 -run '^TestReplayMany$$' -v -timeout 60m ./cmd/settled

twins: ## every request to NATS and to the node, with every kind of failure; writes build/twins.json
	@mkdir -p build
	$(if $(RECORD),RECORD_DIR=$(CURDIR)/$(RUNS)) TWINS_JSON=$(CURDIR)/build/twins.json go test -count=1 -run '^TestTwins$$' -v -timeout 10m ./cmd/settled

browser: ## the dashboard in a browser (Debian's chromium); writes screenshots to build/screens/
	@mkdir -p build/screens
	SETTLED_SCREENS=$(CURDIR)/build/screens go test -tags browser -count=1 -run '^TestBrowser' -timeout 8m ./cmd/settled

bench: build ## settled against raw closes, a bare pipeline and a script, about three minutes (ARGS='--protocol nitronode/v1 --plot build/bench.svg')
	@./build/settled bench $(ARGS)

benchmarks: ## the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

# The benchmarks of a settlement, without servers. A fixed number of iterations makes allocations exact.
COMPARED := -run '^$$' -bench '^Benchmark(Calibration|Plan|ParseOutcome|Settle|Append|ParseEntry|SignClose|VerifyAnswer|DecodeAnswer)$$' \
	-benchmem -benchtime 1000x -count 6 ./settlement ./ledger ./clearnode/internal/nitrorpc ./clearnode/internal/legacy ./clearnode/internal/nitronode
BASELINE := cmd/proof/benchcompare/testdata/baseline.txt
bench-compare: ## the Go benchmarks of a settlement against the stored ones: allocations exact, times relative to a fixed loop
	@mkdir -p build
	go test $(COMPARED) >build/bench.txt
	-go run $(BENCHSTAT) baseline=$(BASELINE) now=build/bench.txt
	go run ./cmd/proof/benchcompare $(BASELINE) build/bench.txt

bench-baseline: ## store the Go benchmarks of a settlement as the baseline of bench-compare
	go test $(COMPARED) | grep -E '^(goos|goarch|pkg|cpu|Benchmark)' >$(BASELINE)

# Three generated files need long runs and have targets of their own: make model, make mutants and
# make twins. cmd/proof/record/runs is written by the targets that take RECORD=1.
docs: ## write every generated file but those of long runs (make model, mutants, twins)
	go test ./cmd/settled/internal/sim -run '^TestSchemas$$' -update
	go test ./cmd/settled -run '^(TestSampleConfig|TestStreamDefinitions|TestSchemas|TestAsyncAPI|TestContractDocs)$$' -update
	go test ./cmd/settled/dashboard -run '^TestSchemas$$' -update
	go test ./settlement -run '^TestLifecycleDiagrams$$' -update
	go test ./ledger -run '^TestGolden$$' -update
	go test ./consumer/deadletter -run '^TestTranscripts$$' -update
	$(MAKE) record

.PHONY: contract
contract: ## validate deploy/asyncapi.json with AsyncAPI's own parser (needs npm)
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js (Debian: nodejs, npm)" >&2; exit 1; }
	@mkdir -p build/contract
	@cp cmd/settled/internal/schematest/asyncapi.mjs build/contract/
	npm install --prefix build/contract --no-save --no-audit --no-fund --ignore-scripts $(ASYNCAPI_PARSER)
	node build/contract/asyncapi.mjs deploy/asyncapi.json

.PHONY: alerts
alerts: ## the tests of the alert rules (needs promtool, which is part of Prometheus)
	@command -v promtool >/dev/null || { echo "promtool is missing: install Prometheus, or its package (Debian: prometheus)" >&2; exit 1; }
	promtool check rules deploy/prometheus/settled.rules.yaml
	promtool test rules deploy/prometheus/tests.yaml

ci: lint test ## what CI runs

clean: ## remove build/
	rm -rf build

# Options are variables: SEED=n, PROTOCOL=…, SHORT=1 (half a minute), LONG=1 (an hour, every
# generation of node), FOR=5m, JSON=1 (the record on stdout), KEEP=1 (keep the logs of a successful run too).
.PHONY: chaos
chaos: ## real processes, killed, paused and disconnected for two minutes, then verified (SEED=n SHORT=1 LONG=1 PROTOCOL=…)
	@mkdir -p build/chaos
	@go build -o build/chaos/chaos ./cmd/proof/chaos
	@./build/chaos/chaos $(if $(SEED),--seed $(SEED)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(SHORT),--short) $(if $(LONG),--long) $(if $(FOR),--for $(FOR)) $(if $(JSON),--output json) $(if $(KEEP),--keep) $(KEEPRECORD)

SESSIONS ?= 200000
.PHONY: soak
soak: ## SESSIONS=200000 sessions with one settled: memory and CPU time in the first and the last tenth
	@mkdir -p build
	@go build -o build/soak ./cmd/proof/soak
	@./build/soak -sessions $(SESSIONS) $(if $(PROTOCOL),-protocol $(PROTOCOL)) $(if $(SYNCED),-synced=$(SYNCED)) $(KEEPRECORD) $(if $(JSON),-output json)

.PHONY: record
record: ## write settlement/RELIABILITY.md from the kept runs
	go test ./cmd/proof/record -run '^TestReliabilityIsWhatTheRunsSay$$' -update
