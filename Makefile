# Everything runs in .venv, which is made when it is missing or pyproject.toml changed.
PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-docker check bench proto integration clean

# The main job, live in the terminal; ONCE=1 ends by itself.
demo: $(STAMP)
	@$(PYTHON) -m tests.servers.install demo
	@$(PYTHON) -m examples.demo.demo $(if $(ONCE),--once)

# Everything, real DNS servers and a cluster in containers included, but for the rows of faults.
test: $(STAMP)
	@$(PYTHON) -m tests.servers.install test
	$(PYTHON) -m pytest -m "not faults"

# The cluster of examples/cluster in containers, and all rows of faults: what happens when they fail.
test-docker: $(STAMP)
	@$(PYTHON) -m tests.servers.install test
	$(PYTHON) -m pytest tests/docker

# What a reviewer runs: lint, types, layers, fast tests. Under a minute.
check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) -m pytest -m "not integration" tests/core tests/wire tests/test_repository.py \
		tests/client/test_choose.py tests/client/test_budget.py tests/client/test_freshness.py

# Ratios against peers in the same run; written to bench.json as well.
bench: $(STAMP)
	@$(PYTHON) -m tests.servers.install bench
	@$(PYTHON) -m tests.bench

integration: $(STAMP)
	@$(PYTHON) -m tests.servers.install test
	$(PYTHON) -m pytest -m integration

proto: $(STAMP)
	$(PYTHON) -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. \
		protos/meshd/v1/*.proto
	$(PYTHON) -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. protos/meshd/etcdwire/*.proto

$(STAMP): pyproject.toml
	@echo "setting up $(VENV) (a minute the first time)"
	@$(PYTHON3) -m venv $(VENV) || { echo "python3 needs its venv module (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .demo bench.json
