# Breaking it on purpose. docs/faults.md says what is done.

.PHONY: faults faults-mutants

faults: ## Inject every fault, singly, in pairs and at random, and kill the built functions
	cd internal/faults && go test -count=1 -timeout 30m -args -faults.full $(ARGS)

faults-mutants: ## Put bugs into copies, and see whether the tests find them
	cd internal/faults && go test -count=1 -timeout 30m -run '^TestMutants$$' -args -faults.mutants
