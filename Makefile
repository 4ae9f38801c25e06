# Every task of this repository. "make" lists them by section.

ARCH ?= arm64
GOARCH = $(if $(filter arm64,$(ARCH)),arm64,$(if $(filter x86_64,$(ARCH)),amd64,$(error ARCH is arm64 or x86_64, not $(ARCH))))
BINARIES = build/ack/bootstrap build/process/bootstrap build/callback/bootstrap

# infra/package-lock.json names its version and its hash. npm also has aws-cdk 3.0.0, which was published by accident.
CDK := infra/node_modules/.bin/cdk
CDK_INSTALLED := infra/node_modules/.package-lock.json

SAM := sam

# The environment of the functions. make sam-api adds a random credential.
SAM_ENV ?= infra/sam.json

# go.mod does not name it: its 200 dependencies would join those of Ringback.
GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The tests that synthesise the stack, for which the CDK needs Node.js, beside those of infra/.
SYNTHESIS = ^TestSynthesis$$

# The number of tool calls of "make soak". SEED repeats the faults of an earlier run.
SOAK ?= 50000

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

##@ On this machine

.PHONY: run
run: build/ringback ## Run everything locally and play a call (ARGS='--help' lists the flags)
	@exec build/ringback dev $(ARGS)

.PHONY: cli
cli: build/ringback ## Build the command line, build/ringback

# The go command finds out what has changed, so make always runs it. Unlike the
# functions, this build records the revision, which "ringback version" prints.
.PHONY: build/ringback
build/ringback:
	@go build -o $@ ./cmd/ringback

.PHONY: build
build: $(BINARIES) ## Build the functions for Lambda (ARCH=arm64 or x86_64)

# The ack function asks only AWS, for which net/http's own HTTP/2 is not needed. It is a twenty-fifth of the executable.
TAGS = lambda.norpc
build/ack/bootstrap: TAGS := $(TAGS),nethttpomithttp2

.PHONY: $(BINARIES)
$(BINARIES): build/%/bootstrap:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -tags $(TAGS) -trimpath -buildvcs=false -ldflags='-s -w' -o $@ ./functions/$*

.PHONY: clean
clean: ## Remove the build products
	rm -rf build cdk.out infra/node_modules

# Without a change of the lock file, npm does nothing, so that the targets below need no network.
$(CDK_INSTALLED): infra/package.json infra/package-lock.json
	npm ci --prefix infra --ignore-scripts --no-audit --no-fund
	@touch $@

##@ Checks

# Compiling takes minutes on a busy machine. The functions that the tests run as
# processes are compiled before the time of the tests is limited.
.PHONY: test-functions
test-functions:
	CGO_ENABLED=0 go build -tags lambda.norpc -ldflags='-s -w' ./functions/...

# The limit is for a package that hangs. On two processors with a load of 20, a
# test takes up to ten times as long as alone. The longest, internal/faults, then
# takes up to ten minutes. Some packages wait more than they compute, so there is one
# more at a time than there are processors.
TEST = go test -timeout 30m -p $$(($$(getconf _NPROCESSORS_ONLN) + 1))

.PHONY: test
test: test-code test-infra ## Run all tests

.PHONY: test-code
test-code: test-functions ## Run the tests without those of infra/
	$(TEST) -skip '$(SYNTHESIS)' $$(go list ./... | grep -v /infra)

.PHONY: test-infra
test-infra: ## Run the tests that synthesise the stack
ifeq ($(shell command -v node),)
	@echo "NOT TESTED: infra/, as there is no Node.js here"
else
	$(TEST) ./infra/...
	$(TEST) -run '$(SYNTHESIS)' ./internal/cli/scaffold
endif

.PHONY: test-tools
test-tools: ## Run the tests of your own tools alone
	go test ./tools/...

.PHONY: lint
lint: ## Check format and style, look for mistakes and check who imports whom
	$(GOLANGCI_LINT) run --allow-parallel-runners
	go run ./scripts/check-style

.PHONY: fmt
fmt: ## Format the code
	gofmt -s -w $$(git ls-files '*.go')

.PHONY: bench
bench: ## Measure the built functions, the parser, the ack and the whole path of a tool call (ARGS='-starts 100')
	go run ./scripts/bench $(ARGS)
	go test -run '^$$' -bench . -benchmem ./vapi ./vapi/vapiauth ./internal/ack ./internal/local/pipeline

# Downloads and compilation take minutes on a busy machine, so they come before the
# time of the tests is limited. Synthesising one stack needs the CDK CLI, the CDK
# app and the functions. The tests install the CDK CLI of their project again.
.PHONY: e2e-compile
e2e-compile: $(CDK_INSTALLED)
	$(CDK) synth --quiet --output build/e2e -c architecture=$(if $(filter x86_64 amd64,$(shell uname -m)),x86_64,arm64)
	go test -tags e2e -run '^$$' ./e2e

# The limit is for a test that hangs. The tests take four minutes, most of it
# waiting. Each wait has a limit that follows from the timeout that it waits for
# (e2e/waits_test.go).
.PHONY: e2e
e2e: e2e-compile ## Deploy into an emulator of AWS and test the deployment
	go test -tags e2e -count=1 -timeout 90m -parallel 16 -v ./e2e $(ARGS)

##@ Faults (docs/faults.md)

# The limits are for a run that hangs. Compilation does not count against them.

.PHONY: faults
faults: test-functions ## Inject every fault, singly, in pairs and at random, and kill the built functions
	cd internal/faults && go test -count=1 -timeout 3h -args -faults.full $(ARGS)

.PHONY: faults-mutants
faults-mutants: ## Put bugs into copies of the sources and check that the tests find them (SHARD=2/6: a part)
	cd internal/faults && go test -count=1 -timeout 6h -run '^TestMutants$$' -args -faults.mutants \
		-faults.shard=$(or $(SHARD),1/1)

.PHONY: soak
soak: ## Send 50,000 tool calls through the functions, with faults everywhere
	RINGBACK_SOAK=$(SOAK) RINGBACK_SOAK_SEED=$(SEED) go test -count=1 -timeout 2h -run '^TestSoak$$' -v ./internal/local/pipeline

##@ Generated files

.PHONY: events
events: ## Write the Lambda events in events/ again, from events/vapi
	go test ./events -run TestEvents -update

.PHONY: screenshots
screenshots: ## Make the pictures of the page in docs/images again, in Chromium
	RINGBACK_CHROMIUM=required RINGBACK_SCREENSHOTS=$(CURDIR)/docs/images go test -count=1 -run '^TestScreenshots$$' ./internal/cli

.PHONY: costs
costs: ## Write the tables and charts of docs/cost.md, docs/scale.md and ARCHITECTURE.md again
	go test ./internal/local/pipeline -run '^(TestBill|TestScale|TestRequests)$$' -update

.PHONY: licences
licences: ## Write docs/licences.md again
	scripts/licences >docs/licences.md.new
	mv docs/licences.md.new docs/licences.md

##@ Deployment (ARGS holds settings: make deploy ARGS='-c stage=dev')

.PHONY: bootstrap
bootstrap: $(CDK_INSTALLED) ## Prepare an account and region for the CDK, once
	$(CDK) bootstrap $(ARGS)

.PHONY: synth
synth: $(CDK_INSTALLED) ## Synthesise the CloudFormation template into cdk.out
	$(CDK) synth --quiet $(ARGS)

.PHONY: deploy
deploy: $(CDK_INSTALLED) ## Build the functions and deploy them
	$(CDK) deploy $(ARGS)

.PHONY: diff
diff: $(CDK_INSTALLED) ## Show what a deployment would change
	$(CDK) diff $(ARGS)

.PHONY: destroy
destroy: $(CDK_INSTALLED) ## Delete the stack; the jobs table stays unless removalPolicy is destroy
	$(CDK) destroy $(ARGS)

##@ SAM CLI (EVENT names another input)

# The SAM CLI runs the functions in containers, from the template that the CDK
# synthesised. It knows them by their logical ids.

.PHONY: sam-template
sam-template: $(CDK_INSTALLED) ## Synthesise the template that the SAM CLI runs
	$(CDK) synth --quiet --output build/sam -c architecture=x86_64 -c localEndpoint=true $(ARGS)

.PHONY: sam-ack
sam-ack: EVENT ?= events/ack/tool-calls.json
sam-ack: sam-template ## Invoke the ack function
	$(SAM) local invoke RingbackAckE5A2F9AB --event $(EVENT) $(SAM_ARGS)

.PHONY: sam-process
sam-process: EVENT ?= events/process/tool-calls.json
sam-process: sam-template ## Invoke the process function
	@go run ./scripts/sam-env $(SAM_ENV) build/sam/env.json >/dev/null
	$(SAM) local invoke RingbackProcessA7AC0D3E --event $(EVENT) --env-vars build/sam/env.json $(SAM_ARGS)

.PHONY: sam-callback
sam-callback: EVENT ?= events/callback/tool-calls.json
sam-callback: sam-template ## Invoke the callback function
	$(SAM) local invoke RingbackCallback0ED071A9 --event $(EVENT) $(SAM_ARGS)

.PHONY: sam-api
sam-api: sam-template ## Serve the API at http://127.0.0.1:3000/vapi and /results/, with a random credential
	@go run ./scripts/sam-env $(SAM_ENV) build/sam/env.json
	$(SAM) local start-api --env-vars build/sam/env.json $(SAM_ARGS)

.PHONY: sam-check
sam-check: ## Run all SAM targets in a container engine and check their answers
	scripts/check-sam
