#!/usr/bin/env bash
# The gate of the Python client: an environment in .venv, ruff, mypy, pytest. The build of the binary does not need it.
# Tests against real clusters use DRACHMA_BIN, or target/release/drachma; without a binary they are skipped.
set -euo pipefail
cd "$(dirname "$0")"

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'

.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/pytest -q "$@"
