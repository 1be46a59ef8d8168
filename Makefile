# Thin on purpose: the real thing is the installed `edge-server` command.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 9001
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo serve test bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## Start a server, detect parts on an example picture, show what came out
	@$(BIN)/edge-server demo

serve: $(VENV)/.installed ## Run the server on port 9001 (PORT=9002 for another) until Ctrl-C
	@exec $(BIN)/edge-server start --port $(PORT)

test: $(VENV)/.installed-dev ## Lint, types, import contracts and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest

bench: $(VENV)/.installed ## Start-up time, memory and speed on this machine, and the cost of hostile pictures
	@$(BIN)/python benchmarks/run.py
	@$(BIN)/python benchmarks/decoding.py
	@$(BIN)/python benchmarks/connections.py
	@$(BIN)/python benchmarks/refusals.py

clean: ## Remove the virtual environments and everything that was built
	rm -rf $(VENV) .venv-clients .venv-rtx build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both are editable installs: a changed source file needs no new installation.
$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing Edge Server into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	@echo "Installing the test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here: install Python 3.10 or newer (on Debian and Ubuntu: sudo apt install python3 python3-venv), or name yours with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$$($(PYTHON) --version) is too old, Edge Server needs 3.10 or newer: name another with make PYTHON=python3.12 (on Debian and Ubuntu: sudo apt install python3.12-venv)." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$$($(PYTHON) --version) cannot make virtual environments: install what is missing with sudo apt install python3-venv (or $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])') if it is not the system's own Python), then run make again." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
