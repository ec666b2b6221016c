#!/usr/bin/env bash
# What an NVIDIA card can say within six minutes, what is most worth knowing first: benchmarks/card.sh [FOLDER]
# Its tests, 200 training steps beside the CPU, the two commands a person types, a step beside cuDNN, single kernels.
# Markdown on stdout; whole logs in FOLDER (default: a new one). PYTHON: the interpreter, with nblstm[cuda]'s packages.
# NUMBA_ENABLE_CUDASIM=1 proves the script where there is no card.
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
folder="${1:-$(mktemp -d)}"
mkdir -p "$folder"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" NUMBA_CACHE_DIR="$folder/kernels"

part() {  # title, seconds at most, command
    local log="$folder/${1// /-}.log" started=$SECONDS code
    echo "## $1"
    echo
    timeout "$2" "${@:3}" >"$log" 2>&1
    code=$?
    tail -n "${LINES_SHOWN:-30}" "$log"
    echo
    echo "(exit code $code, $((SECONDS - started)) s)"
    echo
}

steps=200 sizes="" run="--demo --minutes 0.2"
if [ "${NUMBA_ENABLE_CUDASIM:-0}" != 0 ]; then
    steps=2 sizes="--hidden-size 4 --bptt 2 --batches 2"
    run="$folder/small.txt --steps 2 --hidden-size 4 --num-layers 1 --batch-size 2 --bptt 4"
    echo "to be, or not to be, that is the question: whether it is nobler in the mind" >"$folder/small.txt"
fi
"$python" -c '
import importlib.util, platform
from importlib.metadata import version
from nblstm.kernels import load
name, free = load("cuda").describe()
packages = {"numpy": "numpy", "numba": "numba", "numba_cuda": "numba-cuda", "torch": "torch"}
found = [f"{name} {version(name)}" for module, name in packages.items() if importlib.util.find_spec(module)]
room = f", {free / 1e9:.1f} GB free" if free else ""
print(f"# {name}{room}; Python {platform.python_version()}, {chr(44).join(found)}\n")'
part "tests on the card" 120 "$python" -m pytest -p no:cacheprovider -q tests/test_cuda.py
part "training beside the CPU" 120 "$python" benchmarks/gpu.py --beside-cpu $steps $sizes
part "a run from the command line" 60 bash -c '
    "$0" -m nblstm train --device cuda "${@:2}" --overwrite -o "$1/card.safetensors" &&
    "$0" -m nblstm sample -m "$1/card.safetensors" -n 50 --num-samples 2 --backend cuda --seed 1' "$python" "$folder" $run
[ "$steps" = 200 ] || exit 0
part "a training step beside cuDNN" 150 "$python" benchmarks/gpu.py --repeat 3
part "single kernels" 60 "$python" benchmarks/gpu.py --kernels
