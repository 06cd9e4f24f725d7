#!/usr/bin/env bash
# Ten minutes on one GPU: JEM and Glow on CIFAR-10 for four minutes each, with images/s, losses, samples and AUROC.
# Needs torch, torchvision and the package's other dependencies; CIFAR-10, CIFAR-100 and Textures below FEATOOD_DATA.
#
#     bash benchmarks/gpu_densities.sh [FOLDER OF THE RESULTS]
#
# Each network's folder in the results has history.csv with the losses, and samples.png.
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu-densities}
python=${PYTHON:-python}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

"$python" -c "import torch; print(torch.__version__, torch.cuda.get_device_name())" || exit 1
timeout 590 "$python" benchmarks/image_densities.py "$out/densities.jsonl" --folder "$out/nets" --seeds 1 --minutes 3.5 \
    --models jem glow --heads --dataset cifar10 --ood cifar100 textures noise:uniform --test-limit 2000 \
    --arch wrn-16-8:norm=none,slope=0.2,bias=true --option class_conditional=false --option width=256 --option steps=16 \
    --train workers=8 --train channels_last=true 2>&1 | tee "$out/densities.txt"
