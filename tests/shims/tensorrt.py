"""The fake of tests/fake_tensorrt under TensorRT's own name."""

import os
import signal
import sys
import time
from pathlib import Path

from builder_script import script_builds
from shim_board import BOARD

from tests.fake_tensorrt import fake_tensorrt

_module = fake_tensorrt(os.environ.get("EDGESEG_FAKE_TENSORRT", "10.3.0.30"), BOARD, dla_cores=1)
_trouble = os.environ.get("EDGESEG_FAKE_BUILDER", "")
if _trouble and b"edgeseg.engines.tensorrt.worker" in Path("/proc/self/cmdline").read_bytes():
    if _trouble == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if _trouble == "abort":
        print("terminate called after throwing an instance of 'nvinfer1::Error'", file=sys.stderr, flush=True)
        os.abort()
    if _trouble == "silent":
        os._exit(0)
    if _trouble == "sleep":
        time.sleep(600)
    if _trouble.startswith("builds:"):
        script_builds(_module, _trouble[len("builds:") :].split(","))
sys.modules[__name__] = _module
