#!/usr/bin/env bash
# The branch coverage of nblstm/ and cli/: tests/coverage.sh [PYTEST OPTION...], in a checkout of its own. PYTHON: the interpreter.
# Compiled kernels and those of a card say nothing of what they do, so three runs are put together: the suite with the
# commands that it starts, the kernels as plain Python, and those of a card in numba's simulator.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
export NBLSTM_TEST_SECONDS="${NBLSTM_TEST_SECONDS:-3600}"
kernels=(tests/test_{kernels,int8,bfloat16,pruning,crf,attention,caching,distillation,drawing}.py)

measured() { "$python" -m coverage run -m pytest -q -p no:cacheprovider "$@" || failed=1; }

rm -f .coverage .coverage.*
failed=0
measured --ignore tests/test_cuda.py "$@"
NUMBA_DISABLE_JIT=1 measured "${kernels[@]}"
NUMBA_ENABLE_CUDASIM=1 measured tests/test_cuda.py
"$python" -m coverage combine
"$python" -m coverage report
exit "$failed"
