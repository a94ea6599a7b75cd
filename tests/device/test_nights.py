"""What owners of boards sent: every file in ``nights`` is read as the code reads such a board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeseg.device.telemetry import sample_from_tegrastats
from edgeseg.engines.tensorrt.layers import precisions_from_inspector

HERE = Path(__file__).resolve().parent
NIGHTS = sorted((HERE / "nights").glob("*.json"))


@pytest.mark.parametrize("path", NIGHTS, ids=[path.stem for path in NIGHTS])
def test_a_night_is_read_as_on_its_board(path: Path) -> None:
    night = json.loads(path.read_text(encoding="utf-8"))
    assert (HERE / "roots" / path.stem).is_dir() and (HERE / "golden" / f"{path.stem}.txt").is_file()
    for line in night.get("tegrastats", []):
        sample = sample_from_tegrastats(line)
        assert sample.temperatures_c and sample.memory_used_mib, line
    engine = night.get("build", {}).get("engine")
    if "inspector" in night and engine:
        found = precisions_from_inspector(json.dumps(night["inspector"])).to_json()
        assert found["convolutions"] == engine["precisions"]["convolutions"]
        assert found["layers"] == engine["precisions"]["layers"]


def test_none_is_invented() -> None:
    """Until somebody sends one the folder is not there; a night of the fakes must not get in."""
    for path in NIGHTS:
        assert "shims" not in path.read_text(encoding="utf-8"), f"{path.name} was made with the fakes"
