# Two commands do everything on a machine with Python 3.11 or newer and make:
#   make demo    see it work: sandbox, files over SFTP, Dagster assets, Fusion's books compared to the cent
#   make test    see it proven: style, types, layering, definitions and all tests
# The first of them builds .venv from uv.lock; a later one starts at once.

PYTHON ?= python3
# Test processes at a time: one more than the cores of a small machine, for tests wait as well as work.
WORKERS ?= 3
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test test-faults lint format demo dev clean

help:
	@sed -n 's/^#   make/make/p' Makefile
	@echo "make dev     the sandbox and the Dagster UI on http://127.0.0.1:3000"
	@echo "make test-faults  death at every commit, request, packet and fsync of the inbound flow; about an hour on two cores"
	@echo "make lint    style, types and layering only;  make format  rewrite to the style;  make clean  remove what was built"

setup: $(READY)

$(READY): pyproject.toml uv.lock scripts/setup.sh
	@sh scripts/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

test: $(READY)
	@sh scripts/ensure_sshd.sh
	@WORKERS="$(WORKERS)" bash scripts/check.sh all

# Every fault at every place and every kill point of the inbound flow, on both databases; about an hour on two cores.
test-faults: $(READY)
	@sh scripts/ensure_sshd.sh
	@MLC_FAULTS=all $(VENV)/bin/python -m pytest --quiet mlc_dagster_tests/faults --numprocesses "$(WORKERS)"

lint: $(READY)
	@bash scripts/check.sh lint

format: $(READY)
	@$(VENV)/bin/ruff check --fix --quiet .
	@$(VENV)/bin/ruff format --quiet .

demo: $(READY)
	@$(VENV)/bin/mlc demo

dev: $(READY)
	@$(VENV)/bin/mlc dev

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .mlc-sandbox
	find mlc_dagster mlc_dagster_tests -name __pycache__ -type d -prune -exec rm -rf {} +
