# Long runs. SOAK is the number of tool calls, SEED that of the faults' dice.

SOAK ?= 50000

.PHONY: soak

soak: ## Send 50,000 tool calls through the functions, with faults everywhere
	RINGBACK_SOAK=$(SOAK) RINGBACK_SOAK_SEED=$(SEED) go test -count=1 -timeout 10m -run '^TestSoak$$' -v ./internal/local/pipeline
