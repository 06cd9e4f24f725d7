#!/usr/bin/env bash
# Ten minutes on one GPU: every closed-form head fits 1.28 million rows and scores 50,000, made on the card.
# Needs torch for CUDA and the package's other dependencies; no data.
#
#     bash benchmarks/gpu.sh [FOLDER OF THE RESULTS] [OPTIONS OF gpu_scale.py]
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu-scale}
[ $# -gt 0 ] && shift
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
timeout 595 "${PYTHON:-python}" benchmarks/gpu_scale.py --json "$out/scale.json" "$@" 2>&1 | tee "$out/scale.txt"
