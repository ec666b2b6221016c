#!/usr/bin/env bash
# The suite where less is installed, or older: tests/environments.sh [bare] [oldest]. PYTHON, PYTHON310: the interpreters.
#   bare     numpy, click and pytest alone: what needs numba is skipped, everything else passes
#   oldest   the oldest versions that pyproject.toml allows, on Python 3.10
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

suite() {  # interpreter, packages
    "$1" -m venv "$folder/$name"
    "$folder/$name/bin/pip" install -q "${@:2}"
    echo "== $name: $("$folder/$name/bin/pip" list --format=freeze | tr '\n' ' ')"
    "$folder/$name/bin/python" -m pytest -rs
}

for name in ${@:-bare oldest}; do
    case "$name" in
        bare) suite "${PYTHON:-python3}" numpy click pytest ;;
        oldest) suite "${PYTHON310:-python3.10}" "numpy==1.24.*" "numba==0.60.*" "click==8.1.*" "pytest==8.0.*" ;;
        *) echo "there is no environment $name; choose bare or oldest." >&2; exit 2 ;;
    esac
done
