"""The INT8 scales of a bundle as text: ``python calibration/scale_table.py MODEL.edgeseg``."""

from __future__ import annotations

import sys
from pathlib import Path

from edgeseg.bundle import Bundle, read_bundle
from edgeseg.ranges import symmetric_scale


def scale_table(bundle: Bundle) -> str:
    """One line per tensor: symmetric scale (amax / 127), low, high, name; the origin of the ranges on top."""
    ranges = bundle.ranges
    if ranges is None:
        raise SystemExit("the bundle holds no ranges: it was compiled without --int8")
    lines = [
        f"# calibrator {ranges.calibrator}, {ranges.images} images: {ranges.data}",
        f"# graph sha256 {ranges.graph_sha256}",
        f"# data sha256  {ranges.data_sha256}",
        "# scale = max(|low|, |high|) / 127",
        f"# {'scale':>12} {'low':>12} {'high':>12}  tensor",
    ]
    for name, (low, high) in ranges.tensors.items():
        lines.append(f"{symmetric_scale(low, high):14.6g} {low:12.6g} {high:12.6g}  {name}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(scale_table(read_bundle(Path(sys.argv[1]))), end="")
