# `make help` lists the targets. Each installs what it needs (scripts/bootstrap.sh) and does nothing twice.
#   ARGS=…       passed on: make test ARGS="--test it suspended", make run ARGS="--config my.toml"
#   CONSOLE=no   leaves GraphiQL out: Node.js is not needed then
#   PROFILE=…    Cargo profile of `make run`: `dev` shares its build with `make test`, `release` is what one measures
ARGS ?=
CONSOLE ?= yes
PROFILE ?= dev
export CONSOLE
export PATH := $(PATH):$(HOME)/.cargo/bin

NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
CLIENTS := $(wildcard tests/clients/package-lock.json)
BUNDLE := console/dist/graphiql/index.html

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test schema console fmt lint doc golden soak bench bootstrap-%

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

run: bootstrap-run console ## A server with its own private PostgreSQL; prints GraphiQL's address and a token
	@scripts/run --profile $(PROFILE) --bin tenantry -- serve $(ARGS)

# What real servers of tests are started from, each where it can be had; then the tests, in which a missing one says so.
define WITH_SERVERS
bouncer=$$(scripts/pgbouncer 2>/dev/null) || echo "PgBouncer 1.21 or newer could not be had here; its test will say so"; \
	  extensions=$$(scripts/postgres-extensions 2>/dev/null) || echo "PostgreSQL with pgvector and Apache AGE could not be had here; their tests will say so"; \
	  moto=$$(scripts/moto) || echo "moto could not be had here; the tests of AWS KMS and S3 will say so"; \
	  TENANTRY_TEST_EXTENSIONS="$$extensions" PATH="$${bouncer:+$$bouncer:}$${moto:+$$moto:}$$PATH$${extensions:+:$$extensions/client}"
endef

test: bootstrap-test console $(CLIENTS:package-lock.json=node_modules/.package-lock.json) ## The whole suite, on real servers
	@$(WITH_SERVERS) cargo test --workspace $(ARGS)

schema: bootstrap-run ## Write schema.graphql anew
	@cargo run --quiet --bin tenantry -- schema > schema.graphql.new
	@mv schema.graphql.new schema.graphql

golden: bootstrap-test ## Write the table of permissions anew, for a person to read
	TENANTRY_UPDATE_GOLDEN=1 cargo test --test it permissions

console: $(if $(filter no,$(CONSOLE)),,bootstrap-console $(BUNDLE)) ## GraphiQL's page, which the binary embeds

fmt: ## Format
	cargo fmt --all

lint: bootstrap-test ## What CI asks besides the tests: format, clippy, documentation, no second crypto library
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --document-private-items
	scripts/check-crypto.sh

doc: bootstrap-test ## Documentation of the code, in target/doc
	cargo doc --no-deps --workspace --document-private-items

soak: bootstrap-test ## The long forms: a million rows moved under load, a server killed at every change of a move, millions of events of usage
	@$(WITH_SERVERS) TENANTRY_SOAK=1 cargo test --test it -- moves::volume moves::kills usage::stream usage::storm --nocapture --test-threads=1

bench: bootstrap-test ## Ratios to the peers, in one run; see bench/
	bench/run $(ARGS)

bootstrap-%:
	@scripts/bootstrap.sh $*

# Cargo does not notice that files were added to the folder that the binary embeds: the touch tells it.
$(BUNDLE): console/build.mjs $(wildcard console/graphiql/*) console/node_modules/.package-lock.json
	@cd console && node build.mjs
	@touch src/edge/console.rs

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "npm ci in $*"
	@cd $* && $(NPM_CI)
	@touch $@
