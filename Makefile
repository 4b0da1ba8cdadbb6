# The verbs of plugind; the same for the hand and for CI.
#
# What is built once is used everywhere: the host by `--release`, guests by `--profile guest`, and always the
# same packages in one call of cargo, since cargo unifies the features of what it builds together.
# plugind and plugind-compile never share a call: that would put the compiler into the daemon.

PREFIX ?= /usr
PORT ?= 8080
export DESTDIR PREFIX PORT REPS RELOADS PARTS SECONDS_PER_RUN SECONDS_PER_TARGET

daemon := -p plugind -p pluginctl
compiler := -p plugind-compile -p plugind-artifact
plugins := -p plugind-sdk -p hello -p greeter-02 -p warmup -p ticker
guest := --profile guest --target wasm32-wasip2
# The Debians whose systemd the installation is tested under, beside that of this machine: 252, 257, and the newest. Of
# each its suite, and the tests that it is good for: varlinkctl finds its way since 257.
systemds := $(filter-out $(shell . /etc/os-release; echo "$$ID-$$VERSION_ID"),debian-12 debian-13 debian-sid)
suite-debian-12 := bookworm
tests-debian-12 := --test boot
suite-debian-13 := trixie
tests-debian-13 := --test boot --test varlink
suite-debian-sid := sid
tests-debian-sid := --test boot --test varlink
# CI takes the dependencies as they are written down; a developer may be changing them.
locked := $(if $(CI),--locked)
cargo-deny := target/tools/bin/cargo-deny

.DEFAULT_GOAL := help
.PHONY: help run test test-systemd $(systemds:%=test-%) $(systemds:%=image-%) check fmt lint build plugins guests golden fuzz bench advisories install

help: ## print the verbs
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

run: build plugins ## serve the example plugins on 127.0.0.1:8080; PORT=… for another port
	tests/serve

# Unit tests first: they may leave a plugind with features for tests, which `build` then replaces.
test: check guests ## install what is needed, then check and test everything there is
	cargo test --release $(locked) $(daemon)
	cargo test --release $(locked) $(compiler)
	$(MAKE) build
	cargo test --release $(locked) -p plugind-tests
	$(MAKE) test-systemd

test-systemd: $(systemds:%=test-%) ## test the installation under the systemd of other Debians; test-debian-13 for one

$(systemds:%=test-%): test-%: setup-test image-% build guests
	PLUGIND_TEST_ROOT=$(CURDIR)/target/$* cargo test --release $(locked) -p plugind-tests $(tests-$*)

# The directory is kept; remove it to have a newer one.
$(systemds:%=image-%): image-%: setup-test-systemd
	tests/boot-systemd image $(suite-$*) target/$*

check: setup-test $(systemds:%=image-%) fmt lint ## format, lints, dependencies, directions of imports, promises, exposure of units
	$(cargo-deny) $(locked) --log-level error check --hide-inclusion-graph licenses bans sources
	tests/checks/no-compiler
	tests/checks/exposure / $(systemds:%=target/%)
	cargo test --release $(locked) -p plugind-tests --test modules --test promises

fmt: # the benchmark's peers and the fuzzer are workspaces of their own
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path tests/bench/Cargo.toml
	cargo fmt --all --check --manifest-path tests/fuzz/Cargo.toml

lint:
	cargo clippy --release $(locked) $(daemon) -p plugind-tests -p plugind-probe --all-targets -- -D warnings
	cargo clippy --release $(locked) $(compiler) --all-targets -- -D warnings
	cargo clippy $(guest) $(locked) $(plugins) --lib --bins -- -D warnings
	cargo clippy $(guest) $(locked) -p plugind-test-guests --examples -- -D warnings
	CARGO_TARGET_DIR=target/fuzz/build cargo check --quiet $(locked) --manifest-path tests/fuzz/Cargo.toml

build: setup-run ## build the daemon, its client and, apart from them, the compiler
	cargo build --release $(locked) $(daemon)
	cargo build --release $(locked) -p plugind-compile

plugins: setup-run ## build the example plugins
	cargo build $(guest) $(locked) $(plugins) --lib --bins

guests: plugins ## build the guests of the tests, and what is loaded into the daemon to test its unit
	cargo build --release $(locked) -p plugind-probe
	cargo build $(guest) $(locked) -p plugind-test-guests --examples

golden: build ## write down what pluginctl says now as what tests/golden expects
	GOLDEN=write cargo test --release $(locked) -p plugind-tests --test golden

fuzz: setup-fuzz ## give made-up files to what reads files; SECONDS_PER_TARGET=60
	tests/fuzz/run

bench: setup-bench build plugins ## compare with hyper, `wasmtime serve` and nginx; REPS=5 SECONDS_PER_RUN=2 PARTS=reload
	tests/bench/peers
	tests/bench/run

advisories: setup-test ## ask the RustSec database about the dependencies: needs git and a way to it
	$(cargo-deny) check advisories

install: build ## install below DESTDIR; PREFIX=/usr
	tests/install

setup-%: # what the machine lacks for a verb
	@tests/setup $*
