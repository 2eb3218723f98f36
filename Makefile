# Everything happens in .venv, which is made from the hashed lock file: no Docker, no root, no other tool than Python.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo up test check check-deploy format bench lock clean

demo: .venv/ready
	$(BIN)/shaodao demo $(ARGS)

up: .venv/ready
	$(BIN)/shaodao up $(ARGS)

test: .venv/ready
	$(BIN)/pytest tests/domain --cov=domain --cov-report=term-missing:skip-covered --cov-fail-under=97
	$(BIN)/pytest -n 2 --dist loadgroup --ignore=tests/domain $(ARGS)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-deploy: .venv/ready
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	POSTGRES_PASSWORD=x SHAODAO_SECRET=x SHAODAO_PAYLOAD_KEYS=x $(BIN)/docker-compose -f deploy/compose.yaml config --quiet
	$(BIN)/kubernetes-validate --strict deploy/kubernetes/*.yaml
	sh deploy/systemd/verify.sh $(abspath $(BIN)/shaodao)

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready
	$(BIN)/python -m bench.catalogue
	$(BIN)/python -m bench.run $(ARGS)

lock: .venv/ready
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-strip-extras --no-annotate --no-header \
		--extra dev --python-version 3.11 -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-strip-extras --no-annotate --no-header \
		--extra build --constraints requirements.lock --python-version 3.11 -o deploy/requirements.lock pyproject.toml

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '需要 Python 3.11 以上;可用 make PYTHON=python3.12 指定。'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
