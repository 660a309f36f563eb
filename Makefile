# make setup       a pinned Poetry in .tools/, the locked packages in .venv/
# make quickstart  corpus, tokenizer, training, plots: from text on this machine to an encoder
# make test        lint, types, import contract, fast tests
# make test-slow   every kill and fault point, long equivalences, exports
# make test-gpu    the checks that need a CUDA device
# make docs        docs/config.md from the fields of config/

PYTHON ?= python3
POETRY := .tools/bin/poetry
export POETRY_VIRTUALENVS_IN_PROJECT = true
export POETRY_NO_INTERACTION = 1
# Poetry's own virtual environment must not be taken for the project's.
unexport VIRTUAL_ENV
# Hundreds of processes start in the tests: without bytecode each would compile all of torch anew.
unexport PYTHONDONTWRITEBYTECODE
# DeepSpeed is for Linux; elsewhere one device trains without it.
EXTRAS := $(if $(filter Linux,$(shell uname -s)),--extras deepspeed)

# Tests run side by side; slow ones a file in one process, for what they train once.
TEST_PROCESSES ?= 2

.PHONY: setup lock lint quickstart test test-slow test-gpu docs

setup: .venv/.installed

$(POETRY): Makefile
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet poetry==2.5.1 poetry-plugin-pypi-mirror==0.6.5
	@touch $@

.venv/.installed: $(POETRY) pyproject.toml poetry.lock .ci/poetry
	.ci/poetry install $(EXTRAS)
	@touch $@

lock: $(POETRY)
	.ci/poetry lock

lint: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: lint
	.venv/bin/pytest -q -n $(TEST_PROCESSES) --dist worksteal

test-slow: setup
	.venv/bin/pytest -q -n $(TEST_PROCESSES) --dist loadfile -m "slow and not gpu and not net"

test-gpu: setup
	.venv/bin/pytest -q -m gpu

quickstart: setup
	.venv/bin/kl3m quickstart

docs: setup
	.venv/bin/python -m kl3m_embeddings.config.table > docs/config.md
