# The one entry point: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
MODEL ?= smollm2
FUZZ_SECONDS ?= 60
CYCLES ?= 20
MODE ?= full

# The system's Python, not one that the caller's environment puts before it.
SYSTEM_PYTHON := /usr/bin/python3
PYTHON := build/venv/bin/python
MNEMOD := build/release/server/mnemod
MNEMOCTL := build/release/client/cli/mnemoctl
TRACES ?= ../shared/traces
CPP_FILES = $(shell git ls-files --cached --others --exclude-standard '*.cc' '*.h')
export PYTHONPATH := client/python

.PHONY: help deps deps-demo build test demo demo-context capture bench-codecs bench-store bench-inline bench-planes bench-policies bench-contexts \
  fmt fmt-check lint asan tsan fuzz crash contract-accept golden clean FORCE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 18

# --- what the machine must have -------------------------------------------

deps: build/venv/test.stamp ## install what is missing: Debian packages, build/venv

deps-demo: deps build/venv/demo.stamp

build/packages.stamp: deploy/setup/debian-packages.txt deploy/setup/install-dependencies
	@mkdir -p build
	@deploy/setup/install-dependencies
	@touch $@

build/venv/bin/python: | build/packages.stamp
	@$(SYSTEM_PYTHON) -m venv build/venv || { rm -rf build/venv; exit 1; }

build/venv/test.stamp: deploy/setup/requirements-test.txt | build/venv/bin/python
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

build/venv/demo.stamp: deploy/demo/requirements.txt | build/venv/bin/python
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# --- building and testing --------------------------------------------------

# CMake looks again by itself when its files or the list of sources change.
build/%/build.ninja: CMakePresets.json | build/packages.stamp
	@cmake --preset $* >build/configure-$*.log || { cat build/configure-$*.log; exit 1; }

build: deps build/release/build.ninja ## everything, optimised, in build/release
	@ninja -C build/release -j $(JOBS)

test: build ## every test; the last line says how many passed and failed
	@$(SYSTEM_PYTHON) tests/run.py --build build/release --jobs $(JOBS) --pytest $(PYTHON)

asan: deps build/asan-ubsan/build.ninja ## unit, contract and fault tests under ASan, LSan and UBSan
	@ninja -C build/asan-ubsan -j $(JOBS) sanitizer_tests_$(MODE)
	@$(SYSTEM_PYTHON) tests/run.py --build build/asan-ubsan --jobs $(JOBS) --labels sanitizer_$(MODE)

tsan: deps build/tsan/build.ninja ## the same under TSan
	@ninja -C build/tsan -j $(JOBS) sanitizer_tests_$(MODE)
	@$(SYSTEM_PYTHON) tests/run.py --build build/tsan --jobs $(JOBS) --labels sanitizer_$(MODE)

fuzz: deps build/asan-ubsan/build.ninja ## each fuzzer for FUZZ_SECONDS
	@ninja -C build/asan-ubsan -j $(JOBS) fuzzers
	@$(SYSTEM_PYTHON) tests/fuzz/run_fuzzers.py --build build/asan-ubsan --seconds $(FUZZ_SECONDS) --jobs $(JOBS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

crash: build ## CYCLES of kill -9 and of power loss against an oracle
	@$(PYTHON) tests/stress/crash.py --cycles $(CYCLES)

contract-accept: deps ## record additions to proto/mnemo/v1 in its snapshot
	@$(PYTHON) tests/unit/house/contract.py --accept

golden: deps build/release/build.ninja ## a release leaves tests/data/NAME, a data directory for later builds to open
	@$(if $(NAME),,echo "make golden NAME=data_directory_0_2" >&2; exit 2)
	@ninja -C build/release -j $(JOBS) make_golden
	@build/release/tests/contract/golden/make_golden tests/data/$(NAME)
	@du -sh tests/data/$(NAME)

# --- showing and measuring -------------------------------------------------

demo: deps-demo build/release/build.ninja ## a model's KV cache outlives kill -9; MODEL=smollm2|gemma; FLOOR=4: what 4 bits cost
	@ninja -C build/release -j $(JOBS) mnemod mnemoctl
	@$(PYTHON) deploy/demo/$(if $(FLOOR),run_floor.py --floor $(FLOOR),run.py) --model $(MODEL) \
	  --mnemod $(MNEMOD) --mnemoctl $(MNEMOCTL) --out build/demo$(if $(FLOOR),-floor).json

demo-context: deps-demo build/release/build.ninja ## a book remembered, killed, and found again by meaning
	@ninja -C build/release -j $(JOBS) mnemod mnemoctl
	@$(PYTHON) deploy/demo/run_contexts.py --mnemod $(MNEMOD) --mnemoctl $(MNEMOCTL) \
	  --states build/states --out build/demo-context.json

CAPTURE := build/capture
CAPTURED = $(foreach m,smollm2 gemma,$(CAPTURE)/$(m)/heldout/capture.json)

$(CAPTURED) &: | build/venv/demo.stamp
	@$(PYTHON) tests/bench/codecs/capture/capture.py --out $(CAPTURE)

capture: deps-demo $(CAPTURED) ## K, V, Q of both models over real text -> build/capture; some minutes
	@$(PYTHON) tests/bench/codecs/capture/slices.py --capture $(CAPTURE) --slices tests/data/codecs

build/venv/plot.stamp: tests/bench/codecs/requirements.txt | build/venv/test.stamp
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

PASSAGES := build/passages

$(PASSAGES)/passages.f32: tests/bench/codecs/passages.py | build/venv/demo.stamp
	@$(PYTHON) $< --out $(PASSAGES)

bench-codecs: deps-demo $(CAPTURED) $(PASSAGES)/passages.f32 build/venv/plot.stamp build/release/build.ninja ## sizes, errors and speed of codecs on captured attention -> build/bench/codecs.json; ONLY=smollm2|gemma
	@mkdir -p build/bench
	@ninja -C build/release -j $(JOBS) bench_codecs bench_codec_tokens bench_codec_embeddings
	@missed=0; $(PYTHON) tests/bench/codecs/run.py --build build/release --capture $(CAPTURE) \
	  --passages $(PASSAGES) --folder build/bench --out build/bench/codecs.json $(if $(ONLY),--model $(ONLY)) || missed=1; \
	  $(PYTHON) tests/bench/codecs/plot.py build/bench/codecs.json docs/codecs.png; exit $$missed

bench-store: build ## levels, directory, restart, churn -> build/bench/store.json; ONLY="churn flips"
	@mkdir -p build/bench
	@$(PYTHON) tests/bench/store/run.py --build build/release --out build/bench/store.json \
	  --traces $(TRACES) --folder build/bench $(if $(ONLY),--only $(ONLY))

bench-inline: build ## gRPC data path beside Redis -> build/bench/inline.json
	@$(PYTHON) tests/bench/inline/run.py --build build/release --out build/bench/inline.json

bench-planes: build ## the data planes beside Redis, the disk beside O_DIRECT -> build/bench/planes.json; ONLY=bench_planes|bench_bulk|bench_disk|bench_advice|bench_encoded|bench_python
	@$(PYTHON) tests/bench/planes/run.py --build build/release --out build/bench/planes.json $(if $(ONLY),--only $(ONLY))

bench-policies: build ## hit ratios on real traces beside the optimum -> build/bench/policies.json
	@mkdir -p build/bench
	@build/release/tests/bench/policies/bench_policies $(TRACES) | tee build/bench/policies.json

STATES := build/states
HNSWLIB := build/peers/hnswlib-0.8.0

$(STATES)/%/states.json: deploy/demo/hidden_states.py | build/venv/demo.stamp
	@$(PYTHON) deploy/demo/hidden_states.py --model $* --tokens 53248 --out $(STATES)

build/venv/peers.stamp: tests/bench/contexts/requirements.txt | build/venv/test.stamp
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# Its source holds the header; nothing of it is built here.
$(HNSWLIB): | build/venv/peers.stamp
	@mkdir -p build/peers
	@$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --no-binary :all: --dest build/peers $(notdir $(subst -0,==0,$@))
	@tar -xzf $@.tar.gz -C build/peers

# The daemon's own figures need neither the models' states nor the peers.
CONTEXT_STORE_PARTS := append sustained long many
SEARCH_INPUTS := deps-demo $(HNSWLIB) $(STATES)/smollm2/states.json $(STATES)/gemma/states.json
CONTEXT_STORE_ONLY = $(and $(ONLY),$(if $(filter-out $(CONTEXT_STORE_PARTS),$(ONLY)),,yes))

bench-contexts: deps build/release/build.ninja $(if $(CONTEXT_STORE_ONLY),,$(SEARCH_INPUTS)) ## contexts in the daemon, search beside FAISS and hnswlib -> build/bench/contexts.json; ONLY="append graphs"
	@mkdir -p build/bench
	@cmake $(if $(CONTEXT_STORE_ONLY),,-DMNEMO_HNSWLIB=$(CURDIR)/$(HNSWLIB)) build/release >build/configure-release.log
	@ninja -C build/release -j $(JOBS) $(CONTEXT_STORE_PARTS:%=bench_contexts_%) \
	  $(if $(CONTEXT_STORE_ONLY),,bench_hnsw_mnemo bench_hnsw_faiss bench_hnsw_hnswlib bench_ivf bench_context_engine)
	@$(PYTHON) tests/bench/contexts/run.py --build build/release --states $(STATES) \
	  --folder build/bench --out build/bench/contexts.json $(if $(ONLY),--only $(ONLY))

# --- looking at the source -------------------------------------------------

fmt: ## format every C++ file
	@clang-format-14 -i $(CPP_FILES)

fmt-check: ## fail if a C++ file is not formatted
	@clang-format-14 --dry-run -Werror $(CPP_FILES)

lint: deps build/tidy/build.ninja ## thread-safety analysis and clang-tidy; FILES=regex for some
	@ninja -C build/tidy -j $(JOBS)
	@run-clang-tidy-14 -quiet -j $(JOBS) -p build/tidy '$(if $(FILES),$(FILES),^$(CURDIR)/(storage|server|client)/.*\.cc)'

clean: ## remove build/, the virtual environment included
	@rm -rf build
