# make demo    one minute: a cluster, killed nodes, repair, every byte compared. Leaves nothing behind.
# make test    formatting, lint, types, all tests.
# make clients the libraries of S3 clients that tests run, into build/clients; make test does it.
# make prove   the long search for what tests miss (fifty minutes): simulated clusters, register schedules,
#              planted bugs that must be found, chaos on real processes. Each failure prints how to replay it.
# All need Python 3.11 or newer and nothing else; packages come from wherever pip is configured to look.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE :=  # tests start many processes, and compiled modules start sooner

.PHONY: demo test lint check clients prove clean

demo: $(VENV)/.installed
	$(BIN)/objstore demo

# What starts clusters of real processes runs alone: two at once would tell of the machine and not of the code.
test: lint clients
	$(BIN)/pytest -n 2 --dist worksteal -m "not process"
	$(BIN)/pytest -m process

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything but the tests that start real processes.
check: lint
	$(BIN)/pytest -m "not process"

clients: $(VENV)/.installed-test
	@$(BIN)/python -m tests.s3.clients.prepare build/clients

prove: clients
	$(BIN)/python -m tests.sim.explorer --schedules 200000 --jobs 2
	$(BIN)/python -m tests.sim --start 60 --seeds 2140 --jobs 2 --minutes 20
	$(BIN)/python -m tests.sim --canaries --jobs 2
	OBJSTORE_LONG=1 $(BIN)/pytest -m long
	$(BIN)/python -m tests.process.chaos --seconds 60 --seed 1 --seeds 2

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d; objstore needs 3.11 or newer: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find objstore gateway tests -name __pycache__ -prune -exec rm -rf {} +
