from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeseg.errors import EdgesegError, InputError, UsageError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "history.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="benchmarks/ is not part of this source distribution")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("history", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "history.md")
    return module


def _result(version: str, ms: float, cpu: str = "a CPU") -> dict[str, Any]:
    contender = {"name": "int8-cpu", "turn_medians_ms": [ms] * 20, "ms_per_frame": {"p50_ms": ms, "p99_ms": 2 * ms}}
    device = {"cpu": cpu, "cores": 2, "board": "", "power_mode": ""}
    return {"edgeseg": version, "device": device, "threads": [0], "source": "x", "contenders": [contender]}


def test_the_last_release_on_this_machine_is_what_counts(
    history: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version, ms in (("0.10.0", 10.0), ("0.9.0", 40.0)):  # by number, not by letter
        (tmp_path / f"{version}-a.json").write_text(json.dumps(_result(version, ms)))
    (tmp_path / "0.11.0-b.json").write_text(json.dumps(_result("0.11.0", 1.0, "another CPU")))
    history.print_change(_result("0.12.0", 11.0))
    assert capsys.readouterr().out == "int8-cpu: +10.0 % (+10.0 to +10.0) since 0.10.0: slower\n"
    history.print_change(_result("0.12.0", 11.0, "a third"))
    assert "nothing is kept of this machine (a third)" in capsys.readouterr().out


def test_what_comes_before_a_release_is_before_it(history: ModuleType) -> None:
    versions = ["0.10.1", "0.10.0", "0.10.0rc1", "0.10.0.dev1", "0.9.0"]
    assert sorted(versions, key=history._order) == ["0.9.0", "0.10.0.dev1", "0.10.0rc1", "0.10.0", "0.10.1"]


def test_what_is_weak_in_a_comparison_is_said(
    history: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.1.0-a.json").write_text(json.dumps({**_result("0.1.0", 10.0), "throttled": ["it was hot"]}))
    result = _result("0.2.0", 10.0)
    result["contenders"].append({**result["contenders"][0], "name": "fp32"})
    history.print_change(result)
    assert capsys.readouterr().out.splitlines()[1:] == ["only now: fp32", "NOTE: it was hot before"]


def test_the_page_has_a_table_for_each_machine(history: ModuleType, tmp_path: Path) -> None:
    for version, ms, cpu in (("0.1.0", 20.0, "a CPU"), ("0.2.0", 10.0, "a CPU"), ("0.1.0", 5.0, "another CPU")):
        (tmp_path / f"{version}-{cpu}.json").write_text(json.dumps(_result(version, ms, cpu)))
    history.write_page()
    page = (tmp_path / "history.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 2
    assert (
        f"| int8-cpu | 0.1.0 | 20.00 | 40.00 | `{'█' * 40}` |\n| int8-cpu | 0.2.0 | 10.00 | 20.00 | `{'█' * 20}` |"
        in page
    )


@pytest.mark.parametrize("change", [{"threads": [1]}, {"source": "y"}, {"contenders": "other"}])
def test_what_cannot_be_compared_is_kept_all_the_same(
    history: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:  # fmt: skip
    kept, result = _result("0.0.1", 10.0), _result("0.0.2", 10.0)
    kept["device"] = result["device"] = history.detected_device().to_json()
    kept.update({**change, "contenders": [{**kept["contenders"][0], "name": "other"}]})
    (tmp_path / "0.0.1-a.json").write_text(json.dumps(kept))
    monkeypatch.setattr(history, "measured", lambda seconds: result)
    monkeypatch.setattr("sys.argv", ["history.py", "--keep"])
    history.main()
    assert "not compared with 0.0.1: " in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.json"))) == 2 and (tmp_path / "history.md").exists()
    with pytest.raises(UsageError, match="pass --overwrite to replace it"):
        history.main()
    monkeypatch.setattr("sys.argv", ["history.py", "--keep", "--overwrite"])
    history.main()


def test_kept_files_that_lack_something_are_named_in_one_go(history: ModuleType, tmp_path: Path) -> None:
    odd = [_result("0.1.0", 1.0) for _ in range(3)]
    del odd[0]["edgeseg"], odd[1]["contenders"][0]["ms_per_frame"]["p99_ms"], odd[2]["device"]["board"]
    for name, result in zip("abc", odd):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"a\.json has no version.*b\.json has a contender without"):
        history.write_page()
    for name in "ab":
        (tmp_path / f"{name}.json").unlink()
    history.write_page()


def test_a_later_version_is_nothing_to_compare_with(
    history: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "9.9.9-a.json").write_text(json.dumps(_result("9.9.9", 10.0)))
    history.print_change(_result("0.2.0", 10.0))
    assert "nothing is kept of this machine" in capsys.readouterr().out


def test_a_bench_that_fails_is_one_line(history: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history.sys, "executable", "/bin/false")
    with pytest.raises(EdgesegError, match="'edgeseg bench' ended with 1"):
        history.measured(0.1)
