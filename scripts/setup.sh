#!/bin/sh
# Builds the virtual environment from uv.lock: setup.sh PYTHON VENV.
# Needs a Python of 3.11 or newer and a package index; takes the index and the certificates from pip's own configuration.
set -eu
python=$1
venv=$2

fail() {
    echo "$1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "setup: $python is not on the PATH; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "setup: $python is $("$python" -V 2>&1), and 3.11 or newer is needed; name another: make PYTHON=python3.12 ..."

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    # Debian and Ubuntu ship Python without the part that puts pip into a virtual environment.
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "setup: $python cannot build virtual environments here; run: apt-get install python3-venv"
    echo "setup: building $venv from uv.lock"
    "$python" -m venv --clear "$venv"
fi

# Nobody activates the environment here, and one that the caller has active must not receive our packages.
unset VIRTUAL_ENV
pip="$venv/bin/python -m pip"
configured() { $pip config get "$1" 2>/dev/null || true; }

if ! "$venv/bin/uv" --version >/dev/null 2>&1; then
    $pip install --quiet --disable-pip-version-check "uv>=0.8,<1"
fi

# uv does not read pip's configuration. An index and a certificate bundle that an organisation has set are honoured.
index=${PIP_INDEX_URL:-$(configured global.index-url)}
certificates=${PIP_CERT:-$(configured global.cert)}
if [ -n "$certificates" ] && [ -z "${SSL_CERT_FILE:-}" ]; then
    export SSL_CERT_FILE="$certificates"
fi
export UV_PROJECT_ENVIRONMENT="$venv" UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1

if [ -z "$index" ]; then
    "$venv/bin/uv" sync --frozen --quiet --python "$venv/bin/python"
else
    # The lock file names the public index's files; a mirror serves the same files, which the hashes prove.
    requirements="$venv/requirements.txt"
    "$venv/bin/uv" export --frozen --quiet --all-groups --no-emit-project --output-file "$requirements"
    UV_DEFAULT_INDEX=$index "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
        --require-hashes --requirements "$requirements"
    UV_DEFAULT_INDEX=$index "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .
fi
