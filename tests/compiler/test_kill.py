"""kill -9 at any moment of a compile leaves the old bundle or the new one, and the next compile works.

``EDGESEG_KILLS`` sets the number of kills; here it is a sample.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import read_bundle
from tests import HANG_S

KILLS = int(os.environ.get("EDGESEG_KILLS", "4"))


def started(target: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeseg", "compile", str(SHIPPED), "--emit", "int8-cpu", "-o", str(target)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(target.parent / "cache")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_a_kill_leaves_the_old_bundle_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "street.edgeseg"
    old = SHIPPED.read_bytes()
    target.write_bytes(old)
    began = time.monotonic()
    process = started(target)
    assert process.wait(timeout=HANG_S) == 0, process.stderr.read() if process.stderr else ""
    whole = time.monotonic() - began
    new = target.read_bytes()
    assert new != old and "int8-tensorrt" not in read_bundle(target).graphs
    chance = random.Random(0)
    ended = {"old": 0, "new": 0}
    for _ in range(KILLS):
        target.write_bytes(old)
        process = started(target)
        time.sleep(chance.uniform(0, whole))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=HANG_S)
        found = target.read_bytes()
        assert found in (old, new)
        ended["old" if found == old else "new"] += 1
        read_bundle(target)
    print(f"{KILLS} kills over {whole:.1f} s: {ended}")
    assert ended["old"] > 0
    process = started(target)
    assert process.wait(timeout=HANG_S) == 0 and target.read_bytes() == new
