from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.errors import SinkError
from edgeseg.runtime.sinks.jsonl import JsonlSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.runtime.sinks.uri import sink_from_uri
from edgeseg.spec import ModelSpec
from tests.runtime.results import blocks, context, segmentation


def test_a_line_says_where_it_is_from_and_how_sure(spec: ModelSpec, tmp_path: Path) -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[:16] = 2
    confidence = np.array([0.9, 0.0, 0.51234], np.float32)
    with JsonlSink(tmp_path / "a.jsonl", spec) as sink:
        sink.write(segmentation(ids, 4, "door", confidence=confidence))
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {
        "source": "door",
        "frame": 4,
        "name": "000004",
        "ms": {"infer": 12.346, "frame": 15.0},
        "area": {"road": 0.75, "sky": 0.25},
        "confidence": {"road": 0.9, "sky": 0.5123},
    }


@pytest.mark.parametrize("left", [b'{"a": 1}\n{"b', b'{"a": 1}\n' + b"x" * 200_000, b'{"a": 1}\n'])
def test_half_a_line_is_cut_off_at_the_start(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(left)
    lines = LineFile(path)
    lines.append(b"2\n")
    lines.close()
    assert path.read_bytes() == b'{"a": 1}\n2\n'


@pytest.mark.parametrize("left", [b"", b"h", b"header", b"header\n", b"header\nhalf", b"header\n\0\0\0"])
def test_half_a_header_is_written_again(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "log").write_bytes(left)
    LineFile(tmp_path / "log", b"header\n").close()
    assert (tmp_path / "log").read_bytes() == b"header\n"


def test_a_last_line_that_only_lacks_its_end_is_kept(spec: ModelSpec, tmp_path: Path) -> None:
    for kind in ("jsonl", "csv"):
        path = tmp_path / f"o.{kind}"
        for index in range(2):
            with sink_from_uri(f"{kind}://{path}", context(spec)) as sink:
                sink.write(segmentation(blocks(0), index))
            whole = path.read_bytes()
            if index == 0:
                path.write_bytes(whole[:-1])  # as an editor saves it
        assert len(whole.splitlines()) == (2 if kind == "jsonl" else 3)


def test_a_line_that_did_not_fit_leaves_nothing_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """A real short write: the limit on the size of a file is met in the middle of a line."""
    path = tmp_path / "log"
    lines = LineFile(path)
    lines.append(b"x" * 999 + b"\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        for _ in range(2):
            with pytest.raises(SinkError, match="cannot be written"):
                lines.append(b"y" * 999 + b"\n")
            assert path.read_bytes() == b"x" * 999 + b"\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines.append(b"z\n")
    lines.close()
    assert path.read_bytes() == b"x" * 999 + b"\nz\n"


def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "log", b"header\n")
    lines.append(b"1\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    lines.append(b"2\n")
    lines.close()
    assert (tmp_path / "log.1").read_bytes() == b"header\n1\n"
    assert (tmp_path / "log").read_bytes() == b"header\n2\n"


def test_a_folder_that_goes_and_comes_back(spec: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    sink = JsonlSink(folder / "log", spec)
    folder.rename(tmp_path / "gone")
    with pytest.raises(SinkError, match=os.strerror(errno.ENOENT)):
        sink.write(segmentation(blocks(0), 1))
    folder.mkdir()
    sink.write(segmentation(blocks(0), 2))
    sink.close()
    sink.close()
    assert json.loads((folder / "log").read_text())["frame"] == 2


def test_two_sinks_on_one_file_are_refused(tmp_path: Path) -> None:
    first = LineFile(tmp_path / "log")
    with pytest.raises(SinkError, match="by another sink; give each one its own file"):
        LineFile(tmp_path / "log")
    first.close()
    LineFile(tmp_path / "log").close()


def test_a_kill_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = (
        "import sys; from pathlib import Path; from edgeseg.runtime.sinks.lines import LineFile\n"
        "lines, number = LineFile(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    lines.append(b'%d %s\\n' % (number, b'x' * 5000)); print(number, flush=True); number += 1\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(50):
        child.stdout.readline()
    child.kill()
    acknowledged = 50 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdout.close()
    LineFile(path).close()
    lines = path.read_bytes().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    assert len(lines) >= acknowledged
    assert {len(line.split()[1]) for line in lines} == {5000}
