#!/bin/sh
# The case from end to end, into FOLDER: run.sh FOLDER. Half an hour on one core.
# RENDER, TRAIN and COMPILE are for trying: more options of the three.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
cp "$here/train.toml" "$here/classes.txt" .

python "$here/render_lung_slices.py" data ${RENDER:-}
edgeseg data check data/patients --split by=prefix --fold 1/6 --classes classes.txt --sheet sheet.png
edgeseg train train.toml ${TRAIN:-}
edgeseg compile runs/lung/best.safetensors --int8 --scores \
    --calib 'data://data/patients?split=prefix&fold=1/6&part=train' \
    --eval 'data://data/patients?split=prefix&fold=1/6&part=val' -o lung.edgeseg ${COMPILE:-}

for graph in fp32 int8-cpu; do
    edgeseg eval lung.edgeseg --data data/test --graph $graph --by-size 64,256
done
edgeseg predict data/test/images -m lung.edgeseg --flip -o found
edgeseg eval lung.edgeseg --masks found --labels data/test/masks --by-size 64,256
