"""No command replaces a file that is not of the kind it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.app.shipped import SHIPPED
from edgeseg.app.targets import is_bundle, is_calibration_cache, is_page, is_program, is_sidecar, refuse_foreign
from edgeseg.compiler.report.template import NOTHING, html_page
from edgeseg.errors import ForeignFileError, UsageError
from edgeseg.runtime.sources import source_from_uri
from edgeseg.selection.choice import SelectionOptions, selected_frames
from tests import HANG_S
from tests.runtime.test_sinks_own import FOREIGN

KINDS = {
    "bundle": is_bundle,
    "program": is_program,
    "cache": is_calibration_cache,
    "page": is_page,
    "sidecar": is_sidecar,
}


def edgeseg(*words: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeseg", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=HANG_S)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", FOREIGN)
def test_every_kind_knows_what_is_not_its_own(tmp_path: Path, kind: str, what: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(FOREIGN[what])
    with pytest.raises(UsageError, match="is not replaced, so name a new file"):
        refuse_foreign(path, kind, KINDS[kind])
    assert path.read_bytes() == FOREIGN[what]


@pytest.mark.parametrize("where", ["nowhere", "f"])
def test_a_link_that_leads_nowhere_is_taken(tmp_path: Path, where: str) -> None:
    (tmp_path / "f").symlink_to(where)
    with pytest.raises(UsageError, match="is not a file and is not replaced"):
        refuse_foreign(tmp_path / "f", "bundle", is_bundle)


def test_a_page_of_bench_is_none_of_inspect() -> None:
    inspected, measured = (
        str(html_page(title, NOTHING, NOTHING, NOTHING)).encode()
        for title in ("street.edgeseg", "edgeseg bench: street")
    )
    assert is_page(inspected) and not is_page(measured)


COMMANDS = {
    "inspect": ("f.html", ["inspect", "--html", "f.html"]),
    "export": ("f.cache", ["calibrate", "export", "-o", "f.cache"]),
    "compile": ("f.edgeseg", ["compile", "net.onnx", "-o", "f.edgeseg"]),
}


@pytest.mark.parametrize("command", ["inspect", "export", "compile"])
def test_commands_leave_files_of_others(tmp_path: Path, command: str) -> None:
    name, words = COMMANDS[command]
    (tmp_path / "net.onnx").write_bytes(b"net")
    (tmp_path / name).write_bytes(b"mine")
    done = edgeseg(*words, cwd=tmp_path)
    assert done.returncode == 2 and "is not replaced, so name a new file" in done.stderr, done.stderr
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_commands_replace_what_they_wrote(tmp_path: Path, command: str) -> None:
    name, words = COMMANDS[command]
    for _ in range(2):
        done = edgeseg(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    refuse_foreign(SHIPPED, "bundle", is_bundle)


@pytest.mark.parametrize("name", ["000000000.png", "selection.json"])
def test_a_folder_of_frames_takes_no_name_that_somebody_has_by_then(tmp_path: Path, name: str) -> None:
    """The folder was empty when it began; what comes there meanwhile is neither replaced nor removed."""
    path = tmp_path / "frames" / name

    def report(chooser: Any) -> None:
        if chooser.seen == 1 and not path.exists():
            path.write_bytes(b"mine")

    if name.endswith(".png"):
        (tmp_path / "frames").mkdir()
    source = source_from_uri("demo://street?frames=30&step=40")
    if name.endswith(".png"):
        # The first frame is written before the first report: put the file there when the source is opened.
        opened = source.open

        def open_late() -> None:
            opened()
            path.write_bytes(b"mine")

        source.open = open_late  # type: ignore[method-assign]
    with pytest.raises(ForeignFileError, match="written by another program meanwhile"):
        selected_frames(source, tmp_path / "frames", SelectionOptions(5, latest=False), report=report)
    assert path.read_bytes() == b"mine"
    assert [item.name for item in path.parent.iterdir()] == [name]
