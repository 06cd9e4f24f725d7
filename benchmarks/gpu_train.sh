#!/usr/bin/env bash
# Ten minutes on one GPU: images/s of extraction beside the bare forward pass, then DDU's recipe for as long as is left.
# Needs torch, torchvision, timm and the package's other dependencies; CIFAR-10 below FEATOOD_DATA for the second part.
#
#     bash benchmarks/gpu_train.sh [FOLDER OF THE RESULTS]
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
python=${PYTHON:-python}
began=$SECONDS
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

"$python" -c "import torch; print(torch.__version__, torch.cuda.get_device_name())" || exit 1
timeout 300 "$python" -m featood bench --extract --batch-size 512 --precision bfloat16 --json "$out/extract.json" \
    --backbone tv:resnet50 --backbone timm:vit_base_patch16_224 --backbone wrn-28-10 2>&1 | tee "$out/extract.txt"

left=$((570 - (SECONDS - began)))
echo "DDU's recipe for $left s; the same command resumes it"
timeout --signal=INT "$left" "$python" -m featood train cross-entropy --recipe ddu-wrn --dataset cifar10 --seed 1 \
    --precision bfloat16 --channels-last --workers 8 --out "$out/ddu-wrn-1" 2>&1 | tee "$out/ddu-wrn.txt"
