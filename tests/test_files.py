from __future__ import annotations

import re
import resource
import signal
from pathlib import Path

import pytest

import edgeseg
from edgeseg.files import atomic_write, file_sha256


def test_ends_of_names_are_compared_in_any_case() -> None:
    """Cameras, Windows and people write ``NET.ONNX`` and ``A.JPG``."""
    exact = re.compile(r"\.suffix (?:==|!=|in|not in) |(?<!lower\(\))\.endswith\(\(?\"\.")
    package = Path(edgeseg.__file__).parent
    places = [(path, line) for path in package.rglob("*.py") for line in path.read_text().splitlines()]
    found = {f"{path.relative_to(package)}: {line.strip()}" for path, line in places if exact.search(line)}
    assert found == {
        # names that edgeseg itself gave
        'archive/query.py: shards = [name.partition(".")[0] for name in place.names(DONE) if name.endswith(".json")]'
    }


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic_write(path, b"one")
    atomic_write(path, b"two", durable=False)
    assert path.read_bytes() == b"two" and [item.name for item in tmp_path.iterdir()] == ["a"]
    assert file_sha256(path) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            atomic_write(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["a"]


def test_a_failed_rename_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        atomic_write(tmp_path / "folder", b"x")
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]
