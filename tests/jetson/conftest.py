from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def whole_clone() -> None:
    """The suites on other Pythons take the tests along, but not what these are about."""
    if not (Path(__file__).resolve().parents[2] / "jetson").is_dir():
        pytest.skip("jetson/ is not beside tests/: only in a whole clone")
