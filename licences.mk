# The dependencies' licences.

.PHONY: licences

licences: ## Write docs/licences.md anew
	.ci/licences >docs/licences.md.new
	mv docs/licences.md.new docs/licences.md
