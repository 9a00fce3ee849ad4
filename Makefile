# Each of these sets up what it needs by itself, and runs again at once. See CONTRIBUTING.md.
.DEFAULT_GOAL := help
# Where this is set, each command and each worker of the tests would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo setup test quick lint bench lab lab-shell lab-pmu clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## profile a real Redis for twenty seconds, with the live view
	@scripts/demo

setup: ## make .venv; as root with apt, install what eBPF needs
	@scripts/setup-system
	@scripts/setup

test: ## run the whole test suite
	@scripts/setup-system
	@scripts/setup dev
	@scripts/test

quick: ## run the tests that need no server, virtual machine, real kernel, command line or patience
	@scripts/setup dev
	@HYPOTHESIS_PROFILE=quick .venv/bin/python -m pytest -q -n 2 -m "not slow and not long and not lab and not server" --ignore=tests/real --ignore=tests/cli --ignore=tests/dna/test_train.py

lint: ## check style, format, types and shell scripts
	@scripts/setup dev
	@scripts/lint

bench: ## run the benchmarks and print their figures
	@scripts/setup-system --demo
	@scripts/setup dev
	@scripts/bench

lab: ## change an emulated machine with four NUMA nodes, and see that it changed
	@scripts/setup-system
	@scripts/setup dev
	@scripts/lab

lab-shell: ## a shell on that machine
	@scripts/setup dev
	@scripts/lab --shell

lab-pmu: ## check hardware counters on an emulated ARM machine
	@scripts/setup dev
	@scripts/lab-pmu

clean: ## remove everything that these made in this folder
	rm -rf .venv .cache .lab .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
