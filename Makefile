# Two targets matter: `make run` (a server and its demo page on one URL) and `make test` (everything that can be checked).
# Both install what the machine lacks; see tools/setup.sh. `make help` lists the rest.

SHELL := /bin/bash
.DELETE_ON_ERROR:

export PATH := $(CURDIR)/.cache/node/bin:$(CURDIR)/.cache/tools/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: run test help setup-run setup-test build release web fmt lint deny e2e bench-gate bench-instructions clean

run: setup-run web            ## Build and start everything on loopback; prints one URL
	@tools/run.sh

test: setup-test              ## Every check and test; ends with a line of totals
	@tools/test.sh

help:                         ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 22

setup-run:                    ## Install what `make run` needs
	@tools/setup.sh run

setup-test:                   ## Install what `make test` needs
	@tools/setup.sh test

build:                        ## Build the binary for development
	cargo build --locked -p sluice

release: web                  ## Build the optimized binary with the demo page inside: target/release/sluice
	cargo build --locked --release -p sluice

web: setup-run                ## Build the demo page
	@tools/web.sh

fmt:                          ## Format the code
	cargo fmt --all

lint:                         ## Formatting, clippy and its layer rules
	cargo fmt --all --check
	tools/clippy.sh

deny: setup-test              ## Licences, bans and sources of all dependencies
	cargo-deny --offline --log-level error check bans licenses sources

e2e: setup-test web build     ## Whole-system tests in Chromium against a real server
	cd tests/e2e && npm test

bench-gate: setup-test        ## Compare the instructions per forwarded packet with the committed baseline
	benches/gate.sh

bench-instructions:           ## Instructions and allocations per forwarded packet (valgrind)
	benches/instructions.sh

clean:                        ## Remove what was built and installed here
	rm -rf target .cache web-demo/dist web-demo/node_modules tests/e2e/node_modules tests/compat/node_modules
