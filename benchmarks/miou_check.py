"""mIoU of a folder of masks against a folder of labels, counted without any code of the package.

``python benchmarks/miou_check.py out/masks camvid/valannot 11`` prints what ``edgeseg eval --masks out --labels ...``
must say.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np


def main(masks: Path, labels: Path, classes: int) -> None:
    """Count intersections and unions class by class; label values from ``classes`` up are void."""
    intersection, union = np.zeros(classes), np.zeros(classes)
    for path in sorted(labels.glob("*.png")):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        found = cv2.imread(str(masks / path.name), cv2.IMREAD_UNCHANGED)
        assert label is not None and found is not None, path
        for c in range(classes):
            truth, claim = label == c, (found == c) & (label < classes)
            intersection[c] += np.sum(truth & claim)
            union[c] += np.sum(truth | claim)
    print(f"{np.mean(intersection[union > 0] / union[union > 0]):.9f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
