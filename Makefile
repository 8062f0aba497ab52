# Entry points for people and CI. `make help` lists them.
#
# Every target builds with the `dev` profile, so that `make demo` and `make test` share what they compile.
# Figures (`make bench`) and images use `release`.

CARGO ?= cargo
# The lab makes network namespaces, which needs root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
HOST_VARIABLE = $(shell echo $(HOST) | tr a-z- A-Z_)
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Crates without I/O. They build without tokio and without a Kubernetes client; `make check` verifies it.
PURE := fairlead-crds fairlead-schema fairlead-allocator fairlead-plan \
	fairlead-bfd fairlead-bgp fairlead-l2 fairlead-mesh fairlead-probe

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: setup
setup: ## Install the Debian packages and tools that the lab and the tests need, where missing
	@tests/setup.sh

.PHONY: build
build: ## Build every binary
	$(CARGO) build --locked --workspace --bins

.PHONY: demo
demo: build ## Show the main job: addresses, ARP, NDP, BGP, a cut cable (KEEP=1 leaves it running)
	@tests/setup.sh demo
	$(SUDO) $(TARGET)/debug/fairlead-lab demo

# The runner is root because some tests make network namespaces.
.PHONY: test
test: setup ## Run every test: unit, property, protocol, a short fuzz run, then real packets in the lab
	CARGO_TARGET_$(HOST_VARIABLE)_RUNNER="$(or $(SUDO),env)" CARGO=$(CARGO) tests/run.sh

# cargo runs the targets one after the other. Use a machine that does nothing else meanwhile.
.PHONY: soak
soak: setup build ## Repeat rare faults 20 times, and flood speakers for 30 s with strict limits (25 min)
	CARGO_TARGET_$(HOST_VARIABLE)_RUNNER="$(or $(SUDO),env)" FAIRLEAD_E2E_ROUNDS=20 \
		FAIRLEAD_FLOOD_SECONDS=30 FAIRLEAD_QUIET_MACHINE=1 \
		$(CARGO) test --locked --workspace --no-fail-fast --test flood --test handover --test isolation \
		-- --nocapture --test-threads=1

# fairlead-net's own tests and the lab need root; everything else runs as any user.
.PHONY: unit
unit: ## Run the tests that need no root and no Debian packages
	$(CARGO) test --locked --workspace --exclude fairlead-e2e --exclude fairlead-lab --exclude fairlead-net \
		-- --skip kubectl_is_installed

.PHONY: fuzz
fuzz: ## Fuzz every decoder and the resolver (FUZZ_SECONDS per target, default 60)
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(CARGO) test --locked -p fairlead-fuzz --test targets -- --nocapture

.PHONY: bench
bench: ## Measure: figures of docs/performance.md
	@tests/setup.sh bench
	$(CARGO) bench --locked -p fairlead-allocator
	$(CARGO) build --locked --release --workspace --bins
	$(SUDO) $(TARGET)/release/fairlead-bench

.PHONY: check
check: ## Check format, lints, docs, spelling, purity, generated manifests, and `lint` without FRR
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@tests/check.sh $(PURE)

.PHONY: lint
lint: setup ## Check scripts, YAML, workflows, Dockerfile, manifests, links, configurations of FRR
	@tests/lint.sh

.PHONY: manifests
manifests: ## Write config/crd from the Rust types, then dist/ and the generated templates of the chart
	$(CARGO) run --locked -p fairlead-crds --bin fairlead-crdgen -- config/crd
	@tests/manifests.sh

.PHONY: images
images: ## Build the container image
	docker build -f deploy/Dockerfile -t fairlead:dev .
