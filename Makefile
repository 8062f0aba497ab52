# What a person or CI calls. `make help` lists it.
#
# Everything builds with the one `dev` profile, so that `make demo` and `make test` share what they compile;
# figures (`make bench`) and images use `release`.

CARGO ?= cargo
# The lab makes network namespaces: what it runs needs root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
HOST_VARIABLE := $(shell echo $(HOST) | tr a-z- A-Z_)
DAEMONS := fairlead-controller fairlead-speaker
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: setup
setup: ## Install the Debian packages that the lab needs, where missing
	@tests/setup.sh

.PHONY: build
build: ## Build every binary
	$(CARGO) build --locked --workspace --bins

.PHONY: demo
demo: setup build ## Show the main job: pool, address, ARP, NDP and BGP, clients, a cut cable (KEEP=1 leaves it running)
	$(SUDO) $(TARGET)/debug/fairlead-lab demo

.PHONY: test
test: setup build test-unit test-lab ## Run every test: unit, property, protocol, then the lab

.PHONY: test-unit
test-unit: ## Run the tests that need no root
	$(CARGO) test --locked --workspace --exclude fairlead-e2e --exclude fairlead-lab --exclude fairlead-net

# One lab at a time on two cores: a second would only make the first one's deadlines less meaningful.
.PHONY: test-lab
test-lab: build ## Run the tests in network namespaces: sockets, lab, end to end
	CARGO_TARGET_$(HOST_VARIABLE)_RUNNER="$(SUDO)" \
		$(CARGO) test --locked -p fairlead-net -p fairlead-lab -p fairlead-e2e -- --test-threads=1

.PHONY: bench
bench: setup ## Measure: figures of docs/performance.md
	$(CARGO) build --locked --release --workspace --bins
	$(SUDO) $(TARGET)/release/fairlead-lab bench

.PHONY: lint
lint: ## Format and clippy as CI has them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: manifests
manifests: ## Write config/crd from the Rust types
	$(CARGO) run --locked -p fairlead-crds --bin fairlead-crdgen -- config/crd

.PHONY: images
images: ## Build the container image
	docker build -f deploy/Dockerfile -t fairlead:dev .
