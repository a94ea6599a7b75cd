from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import edgeseg
from edgeseg.files import _remove_left, atomic_write, file_sha256, scratch_folder


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


def test_every_folder_for_files_that_nobody_keeps_is_one_of_these() -> None:
    package = Path(edgeseg.__file__).parent
    makers = [path.relative_to(package) for path in package.rglob("*.py") if "TemporaryDirectory(" in path.read_text()]
    assert makers == [Path("files.py")]


def test_folders_that_a_kill_left_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = "import sys, tempfile; tempfile.tempdir = sys.argv[1]\nfrom edgeseg.files import scratch_folder\n"
    program = (
        f"{made}with scratch_folder() as folder: (folder / 'a').touch(); print(folder, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, alive = (Path(one.stdout.readline().strip()) for one in both if one.stdout is not None)
    both[0].kill()
    both[0].wait()
    young, other = tmp_path / "edgeseg-scratch-young", tmp_path / "somebody"
    link = tmp_path / "edgeseg-scratch-link"
    for folder in (young, other):
        folder.mkdir()
    link.symlink_to(other, target_is_directory=True)
    for folder in (killed, alive, other):
        os.utime(folder, (0, 0))
    _remove_left.cache_clear()
    with scratch_folder() as mine:
        assert not killed.exists() and (alive / "a").exists() and young.exists() and other.exists() and link.exists()
    assert not mine.exists()
    both[1].communicate("")
    assert both[1].returncode == 0 and not alive.exists()
