# settled: `make help` lists the targets.
SHELL := /bin/bash
ARGS ?=
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@latest
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := help
.PHONY: help run build test lint vuln cover fuzz bench docs ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: build ## see it work: the demo, until Ctrl-C (ARGS=--once to exit when all have their result)
	@./build/settled demo $(ARGS)

build: ## build the program into build/settled
	@mkdir -p build
	@go build -ldflags "-X main.version=$(VERSION)" -o build/settled ./cmd/settled

test: ## run every test with the race detector
	go test -race -timeout 14m ./...

lint: ## formatting, go vet, staticcheck, go.mod in order
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	go mod tidy -diff
	go vet ./...
	go run $(STATICCHECK) ./...

vuln: ## known vulnerabilities in what we depend on
	go run $(GOVULNCHECK) ./...

cover: ## test coverage by package, as build/cover.html
	@mkdir -p build
	go test -coverprofile build/cover.out ./...
	go tool cover -html build/cover.out -o build/cover.html

FUZZTIME ?= 30s
fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: ## benchmarks
	go test -run '^$$' -bench . -benchmem ./...

docs: ## write again what is generated: the sample configuration, the stream definitions, golden files
	go test ./cmd/settled -run 'TestSampleConfig|TestStreamDefinitions' -update

ci: lint test ## what CI runs

clean: ## remove build/
	rm -rf build
