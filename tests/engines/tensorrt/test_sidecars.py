"""Sidecars of engines that came from elsewhere: whatever is in them, the cache is listed and pruned."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgeseg.cli.main import app
from edgeseg.engines.tensorrt.cache import EngineCache, read_engine
from edgeseg.errors import EngineError

WHOLE = {
    "schema": 1,
    "key": {
        "model": "street",
        "precision": "fp16",
        "graph_sha256": "ab",
        "ranges_sha256": "",
        "shape": [360, 480, 3],
        "options": '{"dla": null}',
        "tensorrt": "tensorrt 10.3.0.30",
        "gpu": "Orin",
        "compute_capability": "8.7",
        "sm_count": 8,
        "device": "",
    },
    "plan_sha256": hashlib.sha256(b"plan").hexdigest(),
    "plan_bytes": 4,
    "float_ports": False,
    "precisions": {"layers": {"FP16": 3}, "convolutions": {"FP16": 2}, "reformats": 0},
    "notes": ["a note"],
    "build_s": 1.5,
    "created": 1_700_000_000,
    "self_test": None,
    "added": True,
}
PLACES = [(name,) for name in WHOLE] + [("key", name) for name in WHOLE["key"]]  # type: ignore[attr-defined]
PLACES += [("precisions", name) for name in WHOLE["precisions"]]  # type: ignore[attr-defined]
VALUES = [
    None,
    "",
    "[]",
    "{",
    "x" * 300,
    -1,
    1e300,
    float("inf"),
    float("nan"),
    True,
    [],
    [None],
    {},
    {"a": "b"},
    10**30,
]


def written(folder: Path, sidecar: object) -> Path:
    path = folder / "street-fp16-0123456789abcdef.engine"
    path.write_bytes(b"plan")
    path.with_name(path.name + ".json").write_text(json.dumps(sidecar))
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(VALUES))
def test_a_part_of_another_kind_harms_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...], value: Any
) -> None:
    sidecar = json.loads(json.dumps(WHOLE))
    inner = sidecar if len(place) == 1 else sidecar[place[0]]
    inner[place[-1]] = value
    folder = tmp_path / "edgeseg/engines"
    folder.mkdir(parents=True, exist_ok=True)
    path = written(folder, sidecar)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for words in (
        ["engines", "list"],
        ["engines", "list", "--json"],
        ["engines", "prune", "--dry-run", "--older-than", "1"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.exception)
    try:
        assert EngineCache(tmp_path / "other").add(path).added
    except EngineError as error:
        assert "\n" not in str(error)


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    engine = read_engine(written(tmp_path, WHOLE))
    assert engine.plan() == b"plan" and engine.key.model == "street" and engine.added


def test_a_sidecar_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    path.with_name(path.name + ".json").write_text("[" * 200_000)
    with pytest.raises(EngineError, match="is damaged; delete it"):
        read_engine(path)
