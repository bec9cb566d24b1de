# The whole developer interface; CI calls the same targets.
PYTHON ?= python3.11
BIN = .venv/bin
export TOKENIZERS_PARALLELISM ?= true

.PHONY: quickstart test check docs soak lowest newest audit benchmarks clean

quickstart: .venv/quickstart.stamp  ## fine-tune, test, predict and export on the sample data
	$(BIN)/lit-ft quickstart

test: check  ## ruff, mypy and the whole suite
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/dev.stamp  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

soak: .venv/dev.stamp  ## what takes longer than CI may
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m soak

lowest:  ## the suite with the oldest releases that pyproject.toml allows
	$(PYTHON) -m venv .venv/lowest
	.venv/lowest/bin/python -m pip install -q --disable-pip-version-check -c constraints-lowest.txt -e ".[quickstart,dev]"
	HF_HUB_OFFLINE=1 .venv/lowest/bin/python -m pytest -n 2 --dist worksteal -m "not soak"

newest:  ## the suite with the newest releases there are, torch as pinned
	$(PYTHON) -m venv .venv/newest
	grep ^torch== constraints.txt > .venv/newest/torch.txt
	.venv/newest/bin/python -m pip install -q --disable-pip-version-check -c .venv/newest/torch.txt -U -e ".[quickstart,dev]"
	HF_HUB_OFFLINE=1 .venv/newest/bin/python -m pytest -n 2 --dist worksteal -m "not soak"

audit: .venv/dev.stamp  ## licences of all that is installed; known vulnerabilities, where their database can be reached
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install -q --disable-pip-version-check pip-audit pip-licenses
	.venv/audit/bin/pip-licenses --python $(BIN)/python --order=license
	-.venv/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

benchmarks: .venv/dev.stamp  ## everything against what it replaces; hours at full size
	PYTHON=$(BIN)/python benchmarks/run_all.sh

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/quickstart.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[quickstart]"
	touch $@

.venv/dev.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[quickstart,dev]"
	touch $@ .venv/quickstart.stamp

clean:
	rm -rf .venv build dist site runs .mypy_cache .ruff_cache .pytest_cache
