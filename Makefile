# The targets of plugind: the same for developers and for CI.
#
# Programs are built with PROFILE, which is release unless a target sets another; guests with the profile `guest`; lints
# and tests that need no programs with UNIT_PROFILE, or else with the profiles dev and test.
# cargo unifies the features of the packages of one call, so plugind, pluginctl and plugind-compile never share a call:
# that would link the compiler into the daemon, and the runtime into its client. For the same reason a set of packages is
# always built together. Lints, and the unit tests of `make test`, link no program that is shipped, so there the daemon
# and the compiler share their dependencies: `tested` is the set of packages of each of these calls, whichever of them a
# call is about.

PREFIX ?= /usr
PORT ?= 8080
PROFILE ?= release
PROGRAMS = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
export DESTDIR PREFIX PORT PROGRAMS REPS RELOADS PARTS SECONDS_PER_RUN SECONDS_PER_TARGET

daemon := -p plugind
client := -p pluginctl
compiler := -p plugind-compile -p plugind-artifact
tested := $(daemon) $(compiler) -p plugind-tests
plugins := -p plugind-sdk -p hello -p greeter-02 -p warmup -p ticker -p echo -p clock -p chat -p basic-auth -p cors -p rate-limit -p static-files -p userdb -p resolve-hook
# The crates for authors, whose documentation has examples, and the example plugin that is tested by one of them.
documented := -p plugind-sdk -p plugind-test -p hello
guest := --profile guest --target wasm32-wasip2
# The Debian releases under whose systemd the installation is tested, besides that of this machine: 252, 257 and the
# newest. For each, its suite and the tests that apply: varlinkctl finds the control socket since 257, and
# systemd-resolved asks hooks since 259.
systemds := $(filter-out $(shell . /etc/os-release; echo "$$ID-$$VERSION_ID"),debian-12 debian-13 debian-sid)
suite-debian-12 := bookworm
tests-debian-12 := --test boot
suite-debian-13 := trixie
tests-debian-13 := --test boot --test varlink
suite-debian-sid := sid
tests-debian-sid := --test boot --test varlink --test resolve-hook
# CI uses the dependencies of Cargo.lock as they are; a developer may be changing them.
locked := $(if $(CI),--locked)
# Shipped programs must not contain paths of the machine that built them.
flags = $(if $(filter release,$(PROFILE)),RUSTFLAGS="$$RUSTFLAGS --remap-path-prefix=$(CURDIR)=plugind \
	--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" CFLAGS="$$CFLAGS -ffile-prefix-map=$(CURDIR)=plugind \
	-ffile-prefix-map=$${CARGO_HOME:-$$HOME/.cargo}=cargo")
unit-profile = $(UNIT_PROFILE:%=--profile %)
# Without UNIT_PROFILE, the tests that need no dependency of the daemon do not wait for these.
tests = $(if $(UNIT_PROFILE),$(tested),-p plugind-tests)
# The tests need not be optimized, unlike the programs that they test.
end-to-end = PLUGIND_TEST_PROGRAMS=$(CURDIR)/$(PROGRAMS) cargo test $(unit-profile) $(locked) $(tests)
# The tests of the sources run in `make check`. All others of tests/Cargo.toml run after the programs were built, except
# those with `test = false`.
source-tests := modules promises language
program-tests := $(filter-out $(source-tests),$(shell awk 'BEGIN { RS = "" } \
	/\[\[test\]\]/ && !/test = false/ { gsub(/.*name = "|".*/, ""); print }' tests/Cargo.toml))
# A test of a daemon or a machine often waits for it, so more tests run at the same time than there are processors.
threads = -- --test-threads $$(($$(nproc) * 2))
cargo-deny := target/tools/bin/cargo-deny
# If cargo-nextest is installed, `make unit`, `e2e` and `boot` use it. `make test` does not need it.
nextest := $(shell cargo nextest --version 2>/dev/null)
run-tests := cargo $(if $(nextest),nextest run,test) $(locked)

.DEFAULT_GOAL := help
.PHONY: help run unit e2e boot check test test-authors test-corpus test-browser test-here test-systemd $(systemds:%=test-%) images $(systemds:%=image-%) \
	fmt lint sources build plugins guests golden reference fuzz models chaos soak mutants load bench advisories install uninstall deb dist \
	reproducible

help: ## print the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

run: build plugins ## serve the example plugins on 127.0.0.1:8080; PORT=… for another port
	tests/serve

unit: setup-run ## run the unit tests, or those whose names contain T
	$(run-tests) $(daemon) $(T) $(if $(nextest),--no-tests=pass)
	$(run-tests) $(client) $(T) $(if $(nextest),--no-tests=pass)
	$(run-tests) $(compiler) $(T) $(if $(nextest),--no-tests=pass)

e2e: PROFILE = dev
e2e: setup-e2e build guests ## run the end-to-end tests, or those whose names contain T, in the dev profile
	$(call run-named,daemon)

boot: PROFILE = dev
boot: setup-boot build guests ## run the tests that boot this machine's systemd, or those whose names contain T; needs root
	$(call run-named,boot)

# T must be part of the name of a test.
define run-named
	@cargo test --quiet $(locked) -p plugind-tests --test $(1) -- --list $(T) | grep ': test$$' >/dev/null || \
		{ echo "no test of tests/$(1) has '$(T)' in its name" >&2; exit 1; }
	$(run-tests) -p plugind-tests --test $(1) $(T)
endef

check: setup-check fmt lint sources ## format, lints, dependencies, layers, promises, words, exposure of the units
	$(cargo-deny) $(locked) --log-level error check --hide-inclusion-graph licenses bans sources
	tests/checks/no-compiler
	tests/checks/exposure /

# Systems are fetched while programs are compiled: the one waits for the network, the other for the processors.
test: setup-test setup-test-systemd ## install what is needed, then check and test everything
	@$(MAKE) images & $(MAKE) test-here; here=$$?; wait $$! && exit $$here
	$(MAKE) test-systemd

# The checks and unit tests are not optimized, because optimizing takes longer than running them. The programs are built as
# they are installed.
test-here: UNIT_PROFILE = ci
test-here: check
	cargo test $(unit-profile) $(locked) $(tested) --lib --bin plugind-compile
	cargo test $(unit-profile) $(locked) $(client)
	$(MAKE) models UNIT_PROFILE=$(UNIT_PROFILE)
	$(MAKE) build guests
	tests/checks/build-paths
	tests/browser
	tests/corpus rust
	KINDS=http tests/authors js python
	PLUGIND=$(CURDIR)/$(PROGRAMS)/plugind PLUGINCTL=$(CURDIR)/$(PROGRAMS)/pluginctl \
		cargo test $(unit-profile) $(locked) $(documented) --all-features --test plugin
	$(end-to-end) $(program-tests:%=--test %) $(threads)

test-systemd: $(systemds:%=test-%) ## test the installation under the systemd of other Debians; test-debian-13 for one

$(systemds:%=test-%): UNIT_PROFILE = ci
$(systemds:%=test-%): test-%: setup-test image-% build guests
	tests/checks/exposure target/$*
	PLUGIND_TEST_ROOT=$(CURDIR)/target/$* $(end-to-end) $(tests-$*) $(threads)

images: $(systemds:%=image-%)

# The directory is kept as long as it has the packages that the tests need; remove it to fetch a newer one.
$(systemds:%=image-%): image-%: setup-test-systemd
	tests/boot-systemd image $(suite-$*) target/$*

fmt: # the benchmark's peers and the fuzzer are workspaces of their own
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path tests/bench/Cargo.toml
	cargo fmt --all --check --manifest-path tests/fuzz/Cargo.toml

lint:
	cargo clippy $(unit-profile) $(locked) $(tested) -p plugind-test -p plugind-probe --all-targets -- -D warnings
	cargo clippy $(unit-profile) $(locked) $(client) --all-targets -- -D warnings
	cargo clippy $(unit-profile) $(locked) $(documented) --all-features --test plugin -- -D warnings
	cargo clippy $(guest) $(locked) $(plugins) --lib --bins -- -D warnings
	cargo clippy $(guest) $(locked) -p plugind-test-guests --examples -- -D warnings
	@# Nothing is linked here, so libFuzzer, which is C++, need not be compiled.
	CUSTOM_LIBFUZZER_PATH=/dev/null CARGO_TARGET_DIR=target cargo check --quiet $(unit-profile) $(locked) --manifest-path tests/fuzz/Cargo.toml

sources: # check the sources and documents; needs no built program
	cargo test $(unit-profile) $(locked) $(tests) $(source-tests:%=--test %)
	cargo test --quiet $(unit-profile) $(locked) $(documented) --all-features --doc

build: setup-run ## build the daemon, its client and the compiler, each on its own
	$(flags) cargo build --profile $(PROFILE) $(locked) $(daemon)
	$(flags) cargo build --profile $(PROFILE) $(locked) $(client)
	$(flags) cargo build --profile $(PROFILE) $(locked) -p plugind-compile
	$(if $(filter release,$(PROFILE)),tests/stable-symbols $(PROGRAMS)/plugind $(PROGRAMS)/pluginctl $(PROGRAMS)/plugind-compile)
	tests/licenses >$(PROGRAMS)/third-party-licenses.txt

plugins: setup-run ## build the example plugins
	cargo build $(guest) $(locked) $(plugins) --lib --bins

guests: plugins ## build the guests of the tests, and the probe that is loaded into the daemon to test its unit
	$(flags) cargo build --profile $(PROFILE) $(locked) -p plugind-probe
	cargo build $(guest) $(locked) -p plugind-test-guests --examples

test-authors: PROFILE = dev
test-authors: setup-authors build ## make, build and serve projects of each language with its own tools; LANGS="rust js", KINDS="http job", REQUESTS=1000000
	tests/authors $(LANGS)

test-corpus: PROFILE = dev
test-corpus: setup-authors build ## build and serve components that others wrote, in Rust, C, JavaScript and Python; LANGS="rust js"
	tests/corpus $(LANGS)

test-browser: PROFILE = dev
test-browser: setup-browser build plugins ## have Debian's chromium talk to the plugin chat over a WebSocket
	tests/browser

golden: PROFILE = dev
golden: build ## write the current output of pluginctl to tests/golden as the expected output
	GOLDEN=write cargo test $(locked) -p plugind-tests --test golden

reference: setup-run ## write plugins/reference.md, the reference of the interfaces, from the comments of wit/
	GOLDEN=write cargo test $(locked) -p plugind-tests --test contract reference

models: setup-run ## try every order of the pool's threads on the data that they share
	cargo test $(unit-profile) $(locked) $(if $(UNIT_PROFILE),$(tested),$(daemon)) --lib --features plugind/loom -- pool::models

fuzz: setup-fuzz ## fuzz the parsers of files; SECONDS_PER_TARGET=60
	tests/fuzz/run

chaos: PROFILE = dev
chaos: setup-e2e build guests ## reload, break and attack a daemon for about 10 minutes; ROUNDS=300, SEED=N to repeat
	PLUGIND_CHAOS_ROUNDS=$(or $(ROUNDS),300) PLUGIND_CHAOS_SEED=$(SEED) \
		cargo test $(locked) -p plugind-tests --test chaos -- --nocapture

soak: PROFILE = dev
soak: setup-e2e build guests ## the same for 1,000 reloads and 300,000 requests or more, with the figures over time
	PLUGIND_CHAOS_ROUNDS=$(or $(ROUNDS),1200) PLUGIND_CHAOS_PARTS=20 PLUGIND_CHAOS_SEED=$(SEED) \
		$(if $(ROUNDS),,PLUGIND_CHAOS_REQUESTS=300000 PLUGIND_CHAOS_RELOADS=1000) \
		cargo test $(locked) -p plugind-tests --test chaos -- --nocapture

mutants: PROFILE = dev
mutants: setup-e2e build guests ## check and serve 3,000 damaged and made-up components; COUNT=3000, SEED=N to repeat
	PLUGIND_MUTANTS=$(or $(COUNT),3000) PLUGIND_MUTANTS_SEED=$(SEED) \
		cargo test $(locked) -p plugind-tests --test mutants -- --nocapture

load: setup-e2e build guests ## send a million requests to each example of HTTP, over 1 to 1,000 connections; REQUESTS=1000000, PROCESSORS=0-3
	PLUGIND_LOAD_REQUESTS=$(or $(REQUESTS),1000000) $(if $(PROCESSORS),PLUGIND_LOAD_PROCESSORS=$(PROCESSORS)) \
		$(flags) cargo test --release $(locked) -p plugind-tests --test daemon load:: -- --nocapture --test-threads 1

bench: setup-bench build plugins ## compare with hyper, `wasmtime serve` and nginx; PARTS=quick takes 5 minutes
	tests/bench/peers
	tests/bench/run

advisories: setup-check ## check the dependencies against the RustSec database; needs git and a network
	$(cargo-deny) check advisories

uninstall: ## remove what `make install` has installed, with the same DESTDIR and PREFIX
	tests/uninstall

install: ## install what `make build` has built, below DESTDIR; PREFIX=/usr
	tests/install

deb: setup-deb build ## make a Debian package, and one with the debug symbols, in target/deb
	tests/deb

reproducible: setup-deb ## build this commit twice, in two directories, and compare the programs and the package byte by byte
	tests/reproducible

dist: ## make an archive of the sources and of all crates, which builds without a network, in target/dist
	tests/dist

setup-%: # install the missing tools of a target
	@tests/setup $*
