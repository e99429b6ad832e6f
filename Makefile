# The commands that a developer of adsum types. A bare `make` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps of `test` come in their order, also under -j; cargo and npm use every core by themselves.
.NOTPARALLEL:

PORT ?= 4000
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target))/release
BESIDE := $(abspath $(or $(CARGO_TARGET_DIR),target))/beside
BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug
# Chromium without the parts around a page, which costs half as much to test with, and the whole for what those parts do.
CHROMIUM ?= /usr/bin/chromium-headless-shell
WHOLE_CHROMIUM ?= /usr/bin/chromium

# npm writes this file last when it installs, so a torn install is done again.
INSTALLED := node_modules/.package-lock.json
PYTHON_CLIENTS := phxsocket phx_events realtime
# Files of tests run beside each other, as most of them wait for most of the time.
NODE_TEST := node --test --test-concurrency=3 --test-reporter=spec
# Those of tests/conformance that also run with every message compressed.
COMPRESSED_TESTS := recorded.test.mjs versions.test.mjs
BROWSE = cd tests/browser && CHESS_BIN=$(BUILT)/chess ROOMS_BIN=$(BUILT)/rooms CHROMIUM=$(CHROMIUM) \
	WHOLE_CHROMIUM=$(WHOLE_CHROMIUM) $(NODE_TEST)
# Of the tests in Chromium, the one that measures how soon a page is there.
BY_THE_CLOCK := budget.test.mjs
# Begins a step, and says how long the one before took. It is the first line of a recipe, since make expands a recipe
# just before it runs it.
heading = @$(if $(STEP),$(eval STEPS += '$(STEP): $(took) s')printf -- '--- %s: %s s\n' '$(STEP)' $(took); \
	)printf '\n=== %s\n' '$(1)'$(eval STEP := $(1))$(eval BEGAN := $(now))
now = $(shell date +%s)
took = $(shell expr $(now) - $(BEGAN))

.PHONY: help chess test ops soak fmt lint bench bench-beside bench-cores bench-large bench-table bench-plots bench-profiles bench-chess bench-parts counts counts-record fuzz docs deps test-rust test-node test-clients test-browser screenshots python-clients scripts-test licences parity words external-types circles format clippy features docs-check

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

chess: apps/chess/$(INSTALLED) ## Build the chess site and serve it on http://localhost:4000; PORT=8080 chooses another port
	@scripts/install-missing cc=build-essential
	cargo build --package chess
	PORT=$(PORT) $(BUILT)/chess

test: deps lint test-rust counts test-node test-clients test-browser ## What must pass before a change lands: the lints, all tests, instruction counts
	$(call heading,everything passed)
	@printf '%s\n' $(STEPS)

fmt: ## Format the Rust code
	cargo fmt --all

lint: scripts-test licences parity words ops external-types circles format clippy features docs-check ## Check format, clippy's warnings, words, imports, features, docs and licences; changes nothing

format:
	$(call heading,format)
	cargo fmt --all --check

clippy:
	$(call heading,clippy)
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs-check:
	$(call heading,docs)
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --all-features

features: ## Check that each feature of each library builds alone, and that each library builds without any
	$(call heading,each feature alone)
	scripts/features

scripts-test:
	$(call heading,tests of the scripts)
	$(NODE_TEST) scripts/*.test.mjs

words: ## Check comments and documents for sentences that are read twice
	$(call heading,words)
	scripts/words.mjs

ops: ## Check the alert rules and the dashboard in ops/ against the table of metrics, and run the rules' tests
	$(call heading,rules and dashboard for operators)
	@scripts/install-missing promtool=prometheus
	scripts/ops.mjs

external-types: ## Check that public signatures name only those types of other crates that are meant
	$(call heading,types of other crates)
	scripts/external-types.mjs

circles: ## Check that imports inside each crate point down, without a circle of files
	$(call heading,imports inside crates)
	scripts/circles.mjs

licences: ## Check that every dependency has a licence that deny.toml allows
	$(call heading,licences)
	scripts/licences.mjs

parity: ## Check that the tests named in docs/phoenix-parity.md exist
	$(call heading,parity with Phoenix)
	scripts/parity.mjs

soak: ## Echo Autobahn's compressed messages, track 100,000 users, then simulate clusters that go wrong until stopped, or for SOAK_SECONDS; SOAK_NODES=2 doubles the nodes; ADSUM_SIM_SEED runs one
	$(if $(ADSUM_SIM_SEED),,cargo test --package adsum-channels --test it --locked soak -- --ignored --nocapture)
	$(if $(ADSUM_SIM_SEED),,cargo test --package adsum --test it --locked no_series -- --ignored)
	cargo test --package adsum-tracker --test it --locked soak -- --ignored --nocapture

bench: ## Measure a server in a short run of all scenarios, and print one table; ONLY=churn for some rows, JSON=1 for all figures, COMPRESS=1 with compression
	@scripts/install-missing cc=build-essential taskset=util-linux /usr/sbin/nats-server=nats-server
	cargo build --release --locked --package rooms --package load
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/suite --programs $(RELEASE) --nats-server /usr/sbin/nats-server \
		$(if $(ONLY),--only "$(ONLY)") $(if $(JSON),--json) $(if $(COMPRESS),--compress)

bench-beside: ## Compare with the server of an older commit, in turn, with one worker and with two; OLD=HEAD~10, ONLY=churn for some rows, RUNS=5
	@scripts/install-missing cc=build-essential taskset=util-linux git=git
	$(if $(OLD),,$(error OLD names the commit to compare with))
	rm -rf $(BESIDE) && git worktree prune && git worktree add --detach $(BESIDE) $(OLD)
	cd $(BESIDE) && cargo build --release --locked --package rooms --target-dir $(BESIDE)-build
	git worktree remove --force $(BESIDE)
	cargo build --release --locked --package rooms --package load
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/suite --programs $(RELEASE) --beside $(BESIDE)-build/release \
		$(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only "$(ONLY)") $(if $(COMPRESS),--compress)

bench-cores: ## Measure how many cores the broadcasts of one topic use, in half a minute
	@scripts/install-missing cc=build-essential
	cargo build --release --locked --package load
	ulimit -n "$$(ulimit -Hn)" && for members in 1000 8000; do $(RELEASE)/fan_out --members $$members || exit 1; done
	$(RELEASE)/fan_out --members 20 --topics 100
	$(RELEASE)/fan_out --depth 16

bench-large: ## Measure a million presences on one node, a second node that takes them over, eight nodes over NATS, and 64 that start at once; PRESENCES=10000000 takes 7 GB
	@scripts/install-missing cc=build-essential /usr/sbin/nats-server=nats-server
	cargo build --release --locked --package load --bin scale
	$(RELEASE)/scale one --presences $(or $(PRESENCES),1000000)
	$(RELEASE)/scale takeover --presences $(or $(PRESENCES),1000000) --nats-server /usr/sbin/nats-server
	$(RELEASE)/scale cluster --deploy --nats-server /usr/sbin/nats-server
	$(RELEASE)/scale newcomers --nats-server /usr/sbin/nats-server

bench-table: ## Measure rooms of 2 to 9,000 from one change in 10 s to saturation, in a quarter of an hour; ONLY=500 for some rooms
	@scripts/install-missing cc=build-essential taskset=util-linux
	cargo build --release --locked --package rooms --package load
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/suite --programs $(RELEASE) --table \
		$(if $(ONLY),--only "$(ONLY)") $(if $(JSON),--json)

bench-plots: ## Draw how costs grow, into bench/plots; ONLY=merge for one of them
	@scripts/install-missing cc=build-essential taskset=util-linux
	cargo build --release --locked --package rooms --package load
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-fuzzing cargo build --profile counts --locked --package counts
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/suite --programs $(RELEASE) --plots bench/plots \
		$(if $(ONLY),--only "$(ONLY)") --counts $(dir $(RELEASE))counts/counts

bench-profiles: ## Draw where a server's CPU time goes in each scenario, into bench/profiles
	@scripts/install-missing cc=build-essential taskset=util-linux perf=linux-perf \
		/usr/sbin/nats-server=nats-server
	scripts/profiles

bench-chess: apps/chess/$(INSTALLED) ## Play 500 games at once on the chess site, on one node and on two of which one is killed now and then, and measure; GAMES=50 for fewer
	@scripts/install-missing cc=build-essential /usr/sbin/nats-server=nats-server /usr/bin/pg_ctlcluster=postgresql
	cargo build --release --locked --package chess --package games
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/games --chess $(RELEASE)/chess --games $(or $(GAMES),500) $(if $(JSON),--json)
	ulimit -n "$$(ulimit -Hn)" && $(RELEASE)/games --chess $(RELEASE)/chess --games $(or $(GAMES),500) --nodes 2 --kills 4 $(if $(JSON),--json)

bench-parts: ## Measure what the parts cost, each against the size that it must not depend on
	cargo bench --package bench

counts: ## Count the instructions of hot functions, and compare them with those recorded for this compiler
	$(call heading,instructions of hot functions)
	@scripts/install-missing cc=build-essential valgrind=valgrind
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-fuzzing cargo run --profile counts --locked --package counts

counts-record: ## Record the instructions of hot functions for this compiler
	@scripts/install-missing cc=build-essential valgrind=valgrind
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-fuzzing cargo run --profile counts --locked --package counts -- --record

fuzz: ## Fuzz all that reads input from outside, FUZZ_SECONDS=60 for each target
	scripts/fuzz

docs: ## Build the docs and say where they are
	cargo doc --workspace --no-deps
	@echo "open $(BUILT:debug=doc)/adsum/index.html"

deps: ## Install what the tests need and this machine lacks: Debian packages, parts of Rust, packages of npm and Python
	$(call heading,what the tests need)
	scripts/install-missing cc=build-essential $(CHROMIUM)=chromium-headless-shell $(WHOLE_CHROMIUM)=chromium \
		/usr/sbin/nats-server=nats-server redis-server=redis-server /usr/bin/pg_ctlcluster=postgresql \
		/usr/sbin/nginx=nginx /usr/sbin/haproxy=haproxy python3=python3-venv promtool=prometheus
	cargo fmt --version && cargo clippy --version || rustup component add rustfmt clippy
	@$(MAKE) --no-print-directory $(addsuffix /$(INSTALLED),apps/chess tests/conformance tests/clients tests/browser) \
		python-clients

test-rust: apps/chess/$(INSTALLED) ## Run the Rust tests
	$(call heading,Rust tests)
	cargo test --workspace --locked
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-fuzzing cargo test --locked --package fuzz

test-node: tests/conformance/$(INSTALLED) ## Run the phoenix package and recorded traffic against examples/rooms, some of it with compression; COMPRESS=1 for all
	$(call heading,conformance tests)
	cargo build --package rooms --package profiles --package programs --bin rooms --bin profiles --bin channel --locked
	cd tests/conformance && ROOMS_BIN=$(BUILT)/rooms PROFILES_BIN=$(BUILT)/profiles $(NODE_TEST) *.test.mjs
	$(if $(COMPRESS),,cd tests/conformance && COMPRESS=1 ROOMS_BIN=$(BUILT)/rooms $(NODE_TEST) $(COMPRESSED_TESTS))

test-clients: tests/clients/$(INSTALLED) python-clients ## Run clients that others have written against examples/rooms and examples/supabase; COMPRESS=1 with compression
	$(call heading,other clients)
	cargo build --package rooms --package supabase --locked
	cd tests/clients && ROOMS_BIN=$(BUILT)/rooms SUPABASE_BIN=$(BUILT)/supabase $(NODE_TEST) *.test.mjs

test-browser: apps/chess/$(INSTALLED) tests/browser/$(INSTALLED) ## Run the chess site and the dashboard in Chromium
	$(call heading,browser tests)
	cargo build --package chess --package rooms --locked
	$(BROWSE) --test-concurrency=1 $(BY_THE_CLOCK)
	$(BROWSE) --test-concurrency=2 $(filter-out $(BY_THE_CLOCK),$(notdir $(wildcard tests/browser/*.test.mjs)))

screenshots: apps/chess/$(INSTALLED) tests/browser/$(INSTALLED) ## Make the pictures of the chess site for README and docs
	@scripts/install-missing cc=build-essential $(CHROMIUM)=chromium-headless-shell
	cargo build --package chess --locked
	cd tests/browser && CHESS_BIN=$(BUILT)/chess CHROMIUM=$(CHROMIUM) node screenshots.mjs

python-clients: $(PYTHON_CLIENTS:%=tests/clients/python/venv-%/installed) ## Install the clients in Python that are tested

# Each has an environment of its own, since they ask for different versions of one package. Debian packs what makes them
# apart from Python.
tests/clients/python/venv-%/installed: tests/clients/python/requirements/%.txt
	python3 -c 'import ensurepip' || scripts/install-missing no-ensurepip=python3-venv
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@touch $@

# Packages are installed anew when their lock file is newer than they are.
%/$(INSTALLED): %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@
