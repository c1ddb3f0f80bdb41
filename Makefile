# Every target is a script of hack/, so that a developer, CI and the image build do the same.
# See README.md, "Development".

.DEFAULT_GOAL := build
.PHONY: build test lint e2e simulate bench demo generate image release help

build: ## Build the controller, the agent and kubectl mooring, static, into bin/ (default)
	hack/build.sh

test: ## Run every test: unit, agent in namespaces, e2e. LONG=1: the long ones too. KEEP=1: leave the e2e cluster
	hack/test.sh

lint: ## Check source, formatting, modules, scripts, generated files and manifests
	hack/lint.sh

e2e: ## Run the e2e tests alone. LONG=1, KEEP=1 as for test; RUN=<regexp> selects; PARALLEL=<n> beside each other
	hack/test.sh e2e

simulate: ## Simulate the protocol under a million schedules of faults. SCHEDULES=<n>, FIRST=<seed>, or SEED=<n> TRACE=1
	hack/simulate.sh

bench: build ## Run the benchmarks; print a table with what each figure is compared to
	hack/bench.sh

demo: ## Show Mooring at work in a cluster of namespaces on this machine. KEEP=1 leaves it running
	hack/demo.sh

generate: ## Write the generated files: deepcopy functions, the CRD and docs/reference
	hack/generate.sh

image: ## Build the container images for linux/amd64 and linux/arm64. IMAGE_PREFIX=<registry/name>, PUSH=1
	hack/image.sh

release: ## Commit and tag a release, VERSION=v0.1.0. Pushes nothing; see docs/releasing.md
	hack/release.sh "$(VERSION)"

help: ## List the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
