"""Sources and results behind s3://, through a real server on loopback, and the table that others read."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from edgeseg.app.archive import archive, archive_state
from edgeseg.app.archive_config import ArchiveConfig, ArchiveQueryConfig
from edgeseg.app.archive_query import query_archive
from edgeseg.archive.listing import origins_of
from edgeseg.archive.places import Stored, place_at
from edgeseg.archive.plan import Task
from edgeseg.archive.reading import Reader
from edgeseg.errors import InputError, SinkError, SourceError
from edgeseg.images import read_mask
from edgeseg.runtime.gst.pipelines import CaptureOptions
from tests import HANG_S
from tests.archive.conftest import FRAMES, PICTURES, asked, done_in, results_in
from tests.archive.test_clusters import free_port, process
from tests.cli.test_cli import edgeseg, refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server of its own."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'edgeseg[s3]'")
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'")
    port = free_port()
    with process(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port):
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5):
                break
            time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "testing")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def bucket(server: str, stored: Path) -> Any:
    """A bucket that holds the stored archive under ``in``."""
    import s3fs

    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir("street")
    filesystem.put(str(stored), "street/in", recursive=True)
    return filesystem


def test_s3_gives_the_same_bytes_and_goes_on(
    bucket: Any, stored: Path, reference: Path, form: str, tmp_path: Path
) -> None:
    first = archive(asked("s3://street/in", "s3://street/out", form, shard="0/2", workers=1)).state
    assert not first.is_done and first.segmented
    state = archive(ArchiveConfig(output="s3://street/out", workers=1, verify="10%")).state
    assert state.is_done and (state.segmented, state.failed) == (PICTURES + FRAMES, 2)
    bucket.get("street/out", str(tmp_path / "out"), recursive=True)
    mine, here = results_in(tmp_path / "out"), results_in(reference)
    assert set(mine) == set(here)
    assert {name: data for name, data in mine.items() if name.startswith("masks/")} == {
        name: data for name, data in here.items() if name.startswith("masks/")
    }
    assert set(done_in(tmp_path / "out")) == set(done_in(reference))
    if form == "both" and importlib.util.find_spec("duckdb"):
        config = ArchiveQueryConfig("s3://street/out", "SELECT count(*) FROM frames WHERE error IS NULL")
        assert query_archive(config).rows == [(PICTURES + FRAMES,)]


def test_a_file_is_made_once_on_s3(bucket: Any) -> None:
    place = place_at("s3://street/once")
    assert place.create("a/b", b"1") and not place.create("a/b", b"2")
    assert place.read("a/b") == b"1" and place.names() == ["a"] and place.names("none") == []


def test_what_is_not_on_s3_is_one_line(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="s3://street/none is not there"):
        archive(asked("s3://street/none", tmp_path / "out", "png"))
    with pytest.raises(SinkError, match=r"s3://nobucket/a cannot be written: there is no such bucket"):
        archive(asked("s3://street/in/0.png", "s3://nobucket/a", "png"))
    line = refused("archive", "s3://street/in/*.png", "-o", "nosuch://a/b", cwd=tmp_path)
    assert "nosuch://a/b cannot be opened" in line


def test_names_on_s3_lead_nowhere_else(bucket: Any, stored: Path, tmp_path: Path) -> None:
    bucket.pipe_file("street/odd/../../up.png", (stored / "0.png").read_bytes())
    with pytest.raises(SourceError, match=r"no pictures and no videos \(1 hidden left out\)"):
        archive(asked("s3://street/odd", tmp_path / "out", "png"))
    reader = Reader(place_at("s3://street/odd"), "", CaptureOptions())
    task = Task(0, 0, ((Stored("../../up.png", 1, ""), False),), False)
    assert [item.name for item in reader.items(task)] == ["%2E%2E/%2E%2E/up"]


NAMES = (
    b"bad\xff",
    b"new\nline",
    b"a[1]",
    b"q*?",
    b"a b'\"",
    b"pct%20",
    b"a#b",
    "\u202e".encode(),
    b"a\\xff",
    b"x" * 250,
)
"""What files of cameras and of people are called, without suffix."""
DEEP = b"/".join([("a" + 100 * "ü").encode()] * 10)
"""A folder: its path is longer than a key of S3 may be, and cut in the middle of a letter."""


@pytest.mark.parametrize("where", ["s3://street/[1]", "here/[1]", "here/a=b {c} *?"])
def test_files_and_places_of_any_name_have_results_that_are_found_again(
    where: str, bucket: Any, stored: Path, tmp_path: Path
) -> None:
    """A place is no pattern: beside it there is one that its pattern would name, with other results."""
    names = [os.fsencode(tmp_path / "in") + b"/" + name + b".png" for name in (*NAMES, DEEP + b"/deep")]
    for name in names:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        Path(os.fsdecode(name)).write_bytes((stored / "0.png").read_bytes())
    output = where.replace("here", str(tmp_path))
    form = "both" if importlib.util.find_spec("pyarrow") else "png"
    for beside in {output, output.replace("[1]", "1")} - {output}:
        archive(asked(stored / "0.png", beside, form, workers=1))
    state = archive(asked(tmp_path / "in", output, form, workers=1)).state
    assert (state.planned, state.segmented) == (len(names), len(names)), state.failures
    again = archive(ArchiveConfig(output=output, workers=1, verify="100%"))
    assert (again.compared, again.different, again.state.segmented) == (len(names), (), len(names))
    (origin,) = origins_of([f"{output}/masks/*.png"])
    assert len(list(origin.found())) == len(NAMES)
    if form == "both" and importlib.util.find_spec("duckdb"):
        found = query_archive(ArchiveQueryConfig(output, "SELECT count(*), count(DISTINCT name) FROM frames"))
        assert found.rows == [(len(names), len(names))]


# The table


@pytest.fixture
def table(reference: Path) -> Path:
    """The archive with a table."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'edgeseg[parquet]'")
    return reference


def test_the_table_has_a_row_per_frame(table: Path, stored: Path) -> None:
    import pyarrow.parquet as parquet

    rows = [row for path in sorted((table / "frames").iterdir()) for row in parquet.read_table(path).to_pylist()]
    assert len(rows) == len({row["name"] for row in rows}) == PICTURES + FRAMES + 2
    assert {row["name"] for row in rows if row["error"]} == {"broken", "bad.mp4/000000"}
    video = [row for row in rows if row["source"] == str(stored / "ride.mp4")]
    assert [row["frame"] for row in video] == list(range(FRAMES))
    np.testing.assert_allclose([row["media_time_s"] for row in video], np.arange(FRAMES) / 10, atol=1e-3)
    for row in rows:
        if not row["error"]:
            assert (row["height"], row["width"]) == (72, 96) and abs(sum(row["area"].values()) - 1) < 1e-6


def test_run_lengths_are_the_masks(table: Path) -> None:
    mask_tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    import pyarrow.parquet as parquet

    for path in sorted((table / "frames").iterdir())[:3]:
        for row in parquet.read_table(path).to_pylist():
            if row["error"]:
                continue
            classes = np.full((72, 96), 255, np.uint8)
            for runs in row["rle"]:
                shape = {"size": [72, 96], "counts": runs["counts"].encode()}
                classes[mask_tools.decode(shape) == 1] = runs["class_id"]
            np.testing.assert_array_equal(classes, read_mask(table / "masks" / f"{row['name']}.png"))


def test_the_table_is_asked_in_sql(table: Path, stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'edgeseg[query]'")
    sql = "SELECT count(*) AS frames, count(error) AS failed, max(area.road) <= 1 AS fits, 0.5 AS half FROM frames"
    done = edgeseg("archive", "query", table, sql, "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == [{"frames": PICTURES + FRAMES + 2, "failed": 2, "fits": True, "half": 0.5}], (
        done.stderr
    )
    assert "road" in edgeseg("archive", "query", table, "SELECT 'road' AS name", cwd=tmp_path).stdout
    assert "DuckDB: " in refused("archive", "query", table, "SELECT nothing FROM frames", cwd=tmp_path, code=2)


def test_only_shards_that_are_done_are_asked(stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'edgeseg[parquet]'")
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'edgeseg[query]'")
    output = tmp_path / "out"
    archive(asked(stored / "sub", output, "parquet", shard="0/3", workers=1))
    count = "SELECT count(*) FROM frames"
    whole = query_archive(ArchiveQueryConfig(str(output), count)).rows[0][0]
    assert whole == archive_state(str(output)).segmented
    gone = sorted((output / "done").iterdir())[0]
    gone.unlink()
    assert query_archive(ArchiveQueryConfig(str(output), count)).rows[0][0] == whole - 4
    for path in (output / "done").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no shard is done yet"):
        query_archive(ArchiveQueryConfig(str(output), count))
    with duckdb.connect() as connection:
        every = connection.execute(f"SELECT count(*) FROM '{output}/frames/*.parquet'").fetchall()
    assert every == [(whole,)]


def test_masks_alone_have_no_table(stored: Path, tmp_path: Path) -> None:
    archive(asked(stored / "0.png", tmp_path / "out", "png", workers=1))
    assert "has masks and no table" in refused("archive", "query", "out", "SELECT 1", cwd=tmp_path, code=2)
