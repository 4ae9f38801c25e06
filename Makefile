# Everything that is done with Ringback from a terminal. `make help` lists it.

ARCH ?= arm64
GOARCH = $(if $(filter arm64,$(ARCH)),arm64,$(if $(filter x86_64,$(ARCH)),amd64,$(error ARCH is arm64 or x86_64, not $(ARCH))))
BINARIES = build/ack/bootstrap build/process/bootstrap build/callback/bootstrap

.DEFAULT_GOAL := help

.PHONY: help
help: ## List what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run everything on this machine, and play a call (ARGS='--help' lists more)
	@go build -o build/ringback ./cmd/ringback && exec build/ringback dev $(ARGS)

.PHONY: build
build: $(BINARIES) ## Build the functions for Lambda (ARCH=arm64 or x86_64)

# Go knows what has changed; make does not.
.PHONY: $(BINARIES)
$(BINARIES): build/%/bootstrap:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -tags lambda.norpc -trimpath -buildvcs=false -ldflags='-s -w' -o $@ ./functions/$*

# The stack's own tests synthesise it, for which the CDK needs Node.js.
ifeq ($(shell command -v node),)
PACKAGES = $$(go list ./... | grep -v /infra)
else
PACKAGES = ./...
endif

.PHONY: test
test: ## Run the tests
	@command -v node >/dev/null || echo "NOT TESTED: infra/, as there is no Node.js here"
	go test -timeout 10m $(PACKAGES)

.PHONY: lint
lint: ## Check the format, and look for mistakes
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not formatted; run make fmt: $$unformatted"; exit 1; fi
	go vet -tags e2e ./...
	go tool staticcheck -tags e2e ./...

.PHONY: fmt
fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: events
events: ## Make the Lambda events in events/ anew, from events/vapi
	go test ./events -run TestEvents -update

.PHONY: bench
bench: ## Measure the parser, the ack and the whole way
	go test -run '^$$' -bench . -benchmem ./vapi ./vapi/vapiauth ./internal/ack ./internal/local/pipeline

include infra.mk faults.mk soak.mk licences.mk

.PHONY: clean
clean: ## Remove what was built
	rm -rf build cdk.out
