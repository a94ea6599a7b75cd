#!/bin/sh
# The case from end to end, into FOLDER: run.sh FOLDER. Half an hour on one core.
# RENDER, TRAIN and COMPILE are for trying: more options of the three.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
cp "$here/train.toml" "$here/classes.txt" .

python "$here/render_metal_surfaces.py" data ${RENDER:-}
edgeseg data check data/train --val data/val --classes classes.txt --sheet sheet.png
edgeseg train train.toml ${TRAIN:-}
edgeseg compile runs/metal/best.safetensors --int8 --scores \
    --calib 'data://data/train?windows=256x256' --eval 'data://data/val?windows=256x256' -o metal.edgeseg ${COMPILE:-}

# Whole pictures, larger than the network, by windows that overlap; then in two sizes.
for graph in fp32 int8-cpu; do
    edgeseg predict data/test/images -m metal.edgeseg --graph $graph --tiles -o found-$graph
    edgeseg eval metal.edgeseg --masks found-$graph --labels data/test/masks --by-size 16,64,256
done
edgeseg predict data/test/images -m metal.edgeseg --tiles --scale 1 --scale 1.5 -o found-views
edgeseg eval metal.edgeseg --masks found-views --labels data/test/masks --by-size 16,64,256
