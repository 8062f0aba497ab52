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

# One command for all, so that every dependency is compiled with one set of features. As root, for those tests that
# make network namespaces.
.PHONY: test
test: setup build ## Run every test: unit, property, protocol, then real packets in the lab
	CARGO_TARGET_$(HOST_VARIABLE)_RUNNER="$(or $(SUDO),env)" $(CARGO) test --locked --workspace

.PHONY: bench
bench: ## Measure: figures of docs/performance.md
	@tests/setup.sh bench
	$(CARGO) bench --locked -p fairlead-allocator
	$(CARGO) build --locked --release --workspace --bins
	$(SUDO) $(TARGET)/release/fairlead-bench

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
