"""edgeseg as on a board: the machine's files are those of a recorded root, and ``--camera 0`` is a rendered street.

Run with ``tests/shims`` on PYTHONPATH, which stand for TensorRT and pycuda. Everything else is the command line itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run ``edgeseg`` with this process's arguments."""
    import edgeseg.cli.doctor
    import edgeseg.cli.first_night
    import edgeseg.device.detect
    import edgeseg.device.telemetry
    from edgeseg.cli import main as command_line

    root = Path(os.environ["STUB_ROOT"])
    edgeseg.cli.doctor.HERE = root
    for reads in (
        edgeseg.device.detect.detected_device,
        edgeseg.device.telemetry.telemetry_sample,
        edgeseg.device.telemetry.Telemetry.__init__,
    ):
        reads.__defaults__ = (root,)  # type: ignore[attr-defined]
    edgeseg.cli.first_night.BENCH_TIMES = ("--seconds", "0.1", "--warmup", "0")
    words = sys.argv[1:]
    if words[:1] == ["run"] and "--camera" in words:
        at = words.index("--camera")
        words[at : at + 2] = ["--source", "demo://street?frames=3&size=96x64"]
    if words[:1] == ["service"] and words[1] in ("install", "remove"):
        words[2:2] = ["--root", str(root)]
    sys.argv[1:] = words
    command_line.main()


if __name__ == "__main__":
    main()
