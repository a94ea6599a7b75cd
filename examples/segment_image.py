"""Segment one image and print the share of each class.

python examples/segment_image.py IMAGE [MODEL.edgeseg]
"""

import sys

import cv2

import edgeseg

model = edgeseg.load(*sys.argv[2:3])  # without a path the shipped model
image = cv2.imread(sys.argv[1])  # HxWx3 uint8, BGR
if image is None:
    raise SystemExit(f"{sys.argv[1]} is no image that OpenCV reads")
with edgeseg.open_engine(model) as engine:
    result = edgeseg.segment(engine, image)
print(f"{engine.description}: class map of {result.classes.shape}")
for name, share in zip(model.spec.classes, result.area):
    print(f"{name:>12} {100 * share:5.1f} %")
