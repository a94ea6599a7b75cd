"""The tests that need neither torch nor minutes: ``python -m tests.light [PYTEST ARGUMENT ...]``."""

from __future__ import annotations

import sys

import pytest

NEED_MORE = (
    *("builder", "compiler", "fleet", "jetson", "system", "test_cases.py", "test_pythons.py"),
    "engines/tensorrt/test_faults.py",
    "engines/test_real_pycuda.py",  # compiles pycuda's C++
)
"""What needs torch or programs of the system. All else runs on every Python of a Jetson (tests/test_pythons.py)."""
TAKE_MINUTES = (
    "archive/test_archive.py",
    "bench",
    "cli",
    "device/test_first_night.py",
    "device/test_nights.py",
    "engines",
)
"""What mostly runs whole commands in processes of their own, or builds engines by the hundred."""
SOURCE_ONLY = ("test_english.py", "test_frozen.py", "test_functions.py", "test_messages.py")
"""What reads the text of the package: one Python is enough."""


def ignored(*names: str) -> list[str]:
    """Return pytest's arguments that leave files and folders of ``tests`` out."""
    return [f"--ignore=tests/{name}" for name in names]


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "tests", *ignored(*NEED_MORE, *TAKE_MINUTES), *sys.argv[1:]]))
