"""Take each result of a camera loop: brake when much of the picture's lower half is a pedestrian.

python examples/camera_callback.py [SOURCE]     # 0 is /dev/video0; without one, a rendered street
"""

import sys
from pathlib import Path

import edgeseg

MODEL = Path("street")  # a name of `edgeseg models`, or the path of yours
SOURCE = sys.argv[1] if len(sys.argv) > 1 else "demo://street?frames=30"
PEDESTRIAN = edgeseg.load(MODEL).spec.classes.index("pedestrian")


def on_result(result: edgeseg.Segmentation) -> None:
    """Look at one result. The loop waits for it, so be quick."""
    lower_half = result.ids[result.ids.shape[0] // 2 :]  # at the network's size: cheaper than result.classes
    share = float((lower_half == PEDESTRIAN).mean())
    if share > 0.05:
        print(f"frame {result.frame.index}: pedestrians cover {100 * share:.0f} % ahead: brake")


summary = edgeseg.run(edgeseg.RunConfig(model=MODEL, sources=[SOURCE]), on_result=on_result)
print(f"{summary['frames']} frames")
