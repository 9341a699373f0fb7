#!/usr/bin/env bash
# Style, types, layering, definitions and tests: check.sh lint | all.
# A good step is one line; a bad one shows its output and its name again at the end, and the others still run.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pyright would otherwise ask the package index for a newer version of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1
# Tests start many processes: without compiled modules each would compile every module that it imports.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX="$work/pycache"
failed=()

step() {
    local name=$1 began=$SECONDS
    shift
    if "$@" >"$work/output" 2>&1; then
        printf 'ok      %-38s %3d s\n' "$name" $((SECONDS - began))
        # What a step could not do is said, although it is no fault.
        grep '^skipped: ' "$work/output" || true
    else
        cat "$work/output"
        printf 'FAILED  %-38s %3d s\n' "$name" $((SECONDS - began))
        failed+=("$name")
    fi
}

definitions() {
    # An instance of its own: validating must not create storage in the working directory.
    mkdir -p "$work/dagster_home"
    cp dagster.yaml "$work/dagster_home/"
    DAGSTER_HOME="$work/dagster_home" "$bin/dagster" definitions validate --workspace workspace.yaml
}

tests() {
    local name=$1 status=0
    shift
    "$bin/python" -m pytest --quiet "$@" || status=$?
    # 5 means that the selection is empty.
    if [ "$status" -ne 0 ] && [ "$status" -ne 5 ]; then
        failed+=("$name")
    fi
}

step "style (ruff check)" "$bin/ruff" check --quiet .
step "format (ruff format --check)" "$bin/ruff" format --check --quiet .
step "types (pyright)" "$bin/pyright" --warnings
step "layering (import-linter)" "$bin/lint-imports" --no-cache
if [ "${1:-all}" = all ]; then
    step "dependencies (pip-audit)" "$bin/python" scripts/audit_dependencies.py
    step "definitions (dagster validate)" definitions
    # What measures time runs alone on the machine.
    tests "timing tests (pytest)" -m timing
    tests "tests (pytest)" -m "not timing" --numprocesses "${WORKERS:-3}" --dist worksteal
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
