# make up: a lab of real hosts, built by playbooks/site.yml.   make test: all that this machine can run.
.DEFAULT_GOAL := help
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

up: ## boot the lab and build the cluster on it
	@export MUSTER_UP_STARTED=$$(date +%s)
	$(MAKE) --no-print-directory .venv/.ready
	exec $(BIN)/muster lab up

down: .venv/.ready ## take the lab down, leave nothing behind
	@exec $(BIN)/muster lab down

check: .venv/.ready ## style, types, lint; never edits
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-galaxy collection install --offline --requirements-file requirements.yml >/dev/null
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/ansible-lint --offline

fix: .venv/.ready ## format the code, apply safe lint fixes
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: .venv/.ready ## all tests that this machine can run
	@tests/run

test-fast: .venv/.ready ## everything but the lab
	@tests/run --without-lab

molecule: .venv/.ready ## every role alone on bare lab hosts: molecule/
	@PATH="$$PWD/$(BIN):$$PATH" molecule test --all

fuzz: .venv/.ready ## the schema fuzzer with more than 20,000 cases; writes tests/fuzz/RESULTS.md
	@tests/install_servers
	export MUSTER_FUZZ_EXAMPLES=500 MUSTER_FUZZ_SEED=$$RANDOM MUSTER_FUZZ_RESULTS=$$PWD/tests/fuzz/RESULTS.md
	printf '# What the fuzzer found\n\n`make fuzz`, %s, commit %s.\n' "$$(date -u +'%F %H:%M UTC')" \
	  "$$(git describe --always --dirty)" >"$$MUSTER_FUZZ_RESULTS"
	$(BIN)/pytest -s --timeout 3600 tests/fuzz

bench: .venv/.ready ## measure speed against its goals, and write bench/RESULTS.md; about an hour
	@tests/install_servers
	bench/run --write bench/RESULTS.md

docs: .venv/.ready ## the pages of the roles, from their argument specifications
	@$(BIN)/python -m docs.role_pages

lock: .venv/.ready ## write the lock files anew from pyproject.toml
	@PATH="$$PWD/$(BIN):$$PATH"
	$(LOCK) --all-extras --group dev --group docs --output-file constraints.txt
	$(LOCK) --extra api --extra kube --constraint constraints.txt --output-file roles/control_api/files/requirements.txt

.venv/.ready: constraints.txt pyproject.toml
	@echo "Preparing the virtual environment in .venv"
	.ci/make_venv $(PYTHON)
	touch $@

.PHONY: help up down check fix test test-fast molecule fuzz bench docs lock
