from __future__ import annotations

import os
import random
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
import pytest

from edgeseg.errors import SinkError, SourceError, UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.recording.file import MAX_PIXELS, UNRECORDED, Recording, picture_size
from edgeseg.runtime.recording.sink import RecordSink
from edgeseg.runtime.state import RunState, SourceState
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(("road", "car", "sky"), ((128, 64, 128), (64, 0, 128), (128, 128, 128)), (64, 96), ignore_id=9)


def state_of(*sources: str) -> RunState:
    return RunState(ConfusionMatrix(3), {name: SourceState(name, f"camera {name}") for name in sources})


def result_of(index: int, source: str = "0", size: tuple[int, int] = (48, 64)) -> Segmentation:
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, (64, 96), dtype=np.uint8)
    frame = Frame(image, index, 1_000_000 * index, f"{index:06d}", source=source)
    return Segmentation(frame, ids, {"infer": 1.23456}, 3)


def record(path: Path, results: list[Segmentation], state: RunState | None = None) -> None:
    with RecordSink(path, SPEC, "an engine", state or state_of("0")) as sink:
        for result in results:
            sink.write(result)


def test_what_was_written_comes_back_bit_for_bit_from_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a b?#.edgerec".replace("?", "")
    record(path, [result_of(index) for index in range(3)])
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    with Recording(path) as recording:
        assert recording.spec == SPEC
        assert recording.meta["engine"] == "an engine" and recording.sources == {"0": "camera 0"}
        assert recording.fps == 1000
        for index, row in enumerate(recording.order):
            frame, expected = recording.frame(row), result_of(index)
            np.testing.assert_array_equal(frame.image, expected.frame.image)
            np.testing.assert_array_equal(recording.ids(index, "0"), expected.ids)
            assert (frame.index, frame.name, frame.captured_ns) == (index, f"{index:06d}", 1_000_000 * index)
        assert recording.ids(3, "0") is None


def test_another_thread_may_read_it(tmp_path: Path) -> None:
    record(tmp_path / "a", [result_of(0)])
    with Recording(tmp_path / "a") as recording, ThreadPoolExecutor(1) as pool:
        assert pool.submit(recording.frame, recording.order[0]).result().index == 0


def sources_of(*facts: tuple[str, bool, float]) -> RunState:
    """A run of sources: name, whether it is live, frames per second that it announces."""
    made = {name: SourceState(name, name, is_live=live, announced_fps=fps) for name, live, fps in facts}
    return RunState(ConfusionMatrix(3), made)


@pytest.mark.parametrize(
    ("facts", "source", "fps"),
    [
        ([("0", False, 25.0)], None, 25.0),
        ([("0", False, 0.5)], None, 0.5),
        ([("0", False, 0.0)], None, 0.0),
        ([("0", False, -1.0)], None, 0.0),
        ([("0", False, 1e6)], None, 0.0),
        ([("0", True, 25.0)], None, 666.667),
        ([("0", False, 25.0), ("1", False, 10.0)], None, 666.667),
        ([("0", False, 25.0), ("1", True, 0.0)], None, 666.667),
        ([("0", False, 25.0), ("1", False, 10.0)], "1", 10.0),
        ([("0", False, 25.0), ("1", True, 0.0)], "0", 25.0),
        ([("0", False, 25.0), ("1", True, 0.0)], "1", 0.0),
    ],
)
def test_the_rate_is_the_source_s_own_or_that_of_its_frames(
    tmp_path: Path, facts: list[tuple[str, bool, float]], source: str | None, fps: float
) -> None:
    """Three frames of the first source within 3 ms."""
    record(tmp_path / "a", [result_of(index) for index in (0, 1, 3)], sources_of(*facts))
    with Recording(tmp_path / "a", source) as recording:
        assert recording.fps == fps


def test_one_frame_and_none_have_no_rate(tmp_path: Path) -> None:
    for count in (0, 1):
        record(tmp_path / str(count), [result_of(0, "")] * count, sources_of(("", True, 0.0)))
        with Recording(tmp_path / str(count)) as recording:
            assert recording.fps == 0 and len(recording.order) == count and recording.sources == {"": ""}


def test_the_source_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    record(tmp_path / "a", [result_of(0)])
    with pytest.raises(UsageError, match="has no source 'x'; it has '0'"):
        Recording(tmp_path / "a", "x")


def test_names_that_a_file_cannot_have_stay_apart(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "a\nb", "..", "", "\udcff", "\udcfe", "x" * 300 + "1", "x" * 300 + "2", "x" * 240, "50%2f"]
    results = [result_of(index) for index in range(len(names))]
    named = [replace(result, frame=replace(result.frame, name=name)) for result, name in zip(results, names)]
    record(tmp_path / "a", named)
    with Recording(tmp_path / "a") as recording:
        kept = [recording.frame(row).name for row in recording.order]
    assert len(set(kept)) == len(names)
    assert [new for new, old in zip(kept, names) if new == old] == ["a_b", "x" * 240, "50%2f"]


def as_schema_1(path: Path) -> Path:
    """The recording as the version before it had times of sources would have written it."""
    with sqlite3.connect(path) as database:
        database.executescript(
            """
            ALTER TABLE frames RENAME TO frames_2;
            ALTER TABLE sources RENAME TO sources_2;
            """
            "CREATE TABLE sources (name TEXT PRIMARY KEY, description TEXT NOT NULL);"
            "CREATE TABLE frames (id INTEGER PRIMARY KEY, source TEXT NOT NULL, number INTEGER NOT NULL, "
            "captured_ns INTEGER NOT NULL, name TEXT NOT NULL, image BLOB NOT NULL, ids BLOB NOT NULL, "
            "laps TEXT NOT NULL, UNIQUE (source, number));"
            """
            INSERT INTO frames SELECT id, source, number, captured_ns, name, image, ids, laps FROM frames_2;
            INSERT INTO sources SELECT name, description FROM sources_2;
            DROP TABLE frames_2;
            DROP TABLE sources_2;
            PRAGMA user_version = 1;
            """
        )
    database.close()
    return path


def test_a_recording_of_an_older_version_stays_readable(tmp_path: Path) -> None:
    record(tmp_path / "a", [result_of(index) for index in (0, 2, 7)])
    with Recording(as_schema_1(tmp_path / "a")) as recording:
        frames = [recording.frame(row) for row in recording.order]
        assert [frame.index for frame in frames] == [0, 2, 7] and recording.sources == {"0": "camera 0"}
        assert [frame.media_ns for frame in frames] == [0, 2_000_000, 7_000_000], "as they were captured"
        np.testing.assert_array_equal(recording.ids(2, "0"), result_of(2).ids)
        assert recording.drops == {UNRECORDED: 5}


@pytest.mark.parametrize("live", [True, False])
def test_times_are_the_sources_own_or_of_a_live_one_those_of_capture(tmp_path: Path, live: bool) -> None:
    state = RunState(ConfusionMatrix(3), {"0": SourceState("0", "x", is_live=live, announced_fps=25.0)})
    results = [result_of(index) for index in range(1, 4)]
    timed = replace(results[1], frame=replace(results[1].frame, media_ns=5_000_000_000, duration_ns=77))
    record(tmp_path / "a", [results[0], timed, results[2]], state)
    with Recording(tmp_path / "a") as recording:
        frames = [recording.frame(row) for row in recording.order]
        assert [frame.media_ns for frame in frames] == (
            [0, 5_000_000_000, 2_000_000] if live else [None, 5 * 10**9, None]
        )
        assert [frame.duration_ns for frame in frames] == [0, 77, 0]
        assert recording.fps == (1000 if live else 25)


def test_jpeg_is_near_and_ids_stay_exact(tmp_path: Path) -> None:
    path, result = tmp_path / "a.edgerec", result_of(0)
    result.frame.image[:] = cv2.GaussianBlur(result.frame.image, (0, 0), 5)
    with RecordSink(path, SPEC, "e", state_of("0"), "jpeg") as sink:
        sink.write(result)
    with Recording(path) as recording:
        difference = recording.frame(recording.order[0]).image.astype(int) - result.frame.image
        assert 0 < np.abs(difference).mean() < 3
        np.testing.assert_array_equal(recording.ids(0, "0"), result.ids)


def test_gaps_are_split_by_what_the_run_counted(tmp_path: Path) -> None:
    state = state_of("0", "1")
    path = tmp_path / "a.edgerec"
    with RecordSink(path, SPEC, "e", state) as sink:
        sink.write(result_of(0))
        state.sources["0"].dropped.update({"superseded": 2, "stale": 1})
        sink.write(result_of(5))  # 1-4 are missing: 3 dropped, 1 was missed by the recorder
        state.sources["0"].dropped.update({"stopped": 2})
        state.sources["0"].produced = 9  # 6 and 7 dropped at the end, 8 missed
        state.sources["1"].dropped.update({"paused": 4})
        state.sources["1"].produced = 4
    with Recording(path) as recording:
        assert recording.drops == {"superseded": 2, "stale": 1, "stopped": 2, "paused": 4, UNRECORDED: 2}
    with Recording(path, "1") as recording:
        assert recording.drops == {"paused": 4} and recording.order == []
    rows = sqlite3.connect(path).execute("SELECT source, first, count, cause FROM drops ORDER BY id").fetchall()
    assert rows[:3] == [("0", 1, 2, "superseded"), ("0", 3, 1, "stale"), ("0", 4, 1, UNRECORDED)]


def test_counters_that_run_ahead_are_not_counted_twice(tmp_path: Path) -> None:
    state = state_of("0")
    with RecordSink(tmp_path / "a", SPEC, "e", state) as sink:
        state.sources["0"].dropped.update({"superseded": 3})  # frames 2, 3 and 4, counted before 0 is written
        for index in (0, 1, 5, 6):
            sink.write(result_of(index))
        state.sources["0"].produced = 7
    with Recording(tmp_path / "a") as recording:
        assert recording.drops == Counter({"superseded": 3})


WRITER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.runtime.test_recording import RecordSink, SPEC, result_of, state_of
sink = RecordSink(Path({path!r}), SPEC, "e", state_of("0"))
for index in range(100000):
    sink.write(result_of(index))
    print(index, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(0)
    root = str(Path(__file__).resolve().parents[2])
    for turn in range(10):
        path = tmp_path / f"{turn}.edgerec"
        code = WRITER.format(root=root, path=str(path))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 120)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        with Recording(path) as recording:
            assert len(recording.order) in (acknowledged + 1, acknowledged + 2)
            for row in recording.order:
                frame = recording.frame(row)
                np.testing.assert_array_equal(frame.image, result_of(frame.index).frame.image)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    made = os.geteuid() == 0 and not subprocess.call(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)])
    if not made:
        pytest.skip("a disk of one MiB needs root and mount")
    yield mount
    subprocess.check_call(["umount", str(mount)])


def test_a_full_disk_is_one_error_and_recording_goes_on_when_there_is_room(small_disk: Path) -> None:
    path, other = small_disk / "a.edgerec", small_disk / "other"
    other.write_bytes(bytes(500_000))
    sink = RecordSink(path, SPEC, "e", state_of("0"))
    kept = 0
    with pytest.raises(SinkError, match=r"cannot be written \(.*stays readable: free space"):
        for kept in range(1000):
            sink.write(result_of(kept))
    assert kept > 3
    with Recording(path) as recording:
        assert len(recording.order) == kept
    with pytest.raises(SinkError):
        sink.write(result_of(kept))
    other.unlink()
    sink.write(result_of(kept + 1))
    sink.close()
    sink.close()
    with Recording(path) as recording:
        assert [recording.frame(row).index for row in recording.order] == [*range(kept), kept + 1]
    assert [item.name for item in small_disk.iterdir()] == ["a.edgerec"]


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="png or jpeg, got 'gif'"):
        RecordSink(tmp_path / "a", SPEC, "e", state_of(), "gif")
    (tmp_path / "old").write_text("old")
    with pytest.raises(SinkError, match="never replaces another"):
        RecordSink(tmp_path / "old", SPEC, "e", state_of())
    assert (tmp_path / "old").read_text() == "old"
    with pytest.raises(SinkError, match="cannot be made"):
        RecordSink(tmp_path / "none" / "a", SPEC, "e", state_of())


def altered(path: Path, sql: str, *values: object) -> Path:
    record(path, [result_of(index) for index in range(3)])
    with sqlite3.connect(path) as database:
        database.execute(sql, values)
    database.close()
    return path


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("PRAGMA application_id = 7", "another program"),
        ("PRAGMA user_version = 3", "schema 3, this edgeseg reads up to 2; upgrade edgeseg"),
        ("DROP TABLE drops", "tables of a recording"),
        ("CREATE VIEW more AS SELECT 1", "tables of a recording"),
        ("CREATE TRIGGER t AFTER INSERT ON meta BEGIN SELECT 1; END", "tables of a recording"),
        ("DELETE FROM meta WHERE key = 'spec'", "nothing readable of its model"),
        ("UPDATE meta SET value = replace(hex(zeroblob(50000)), '0', '[') WHERE key = 'spec'", "of its model"),
        ("UPDATE sources SET name = '../x'", "malformed name"),
    ],
)
def test_a_foreign_or_altered_file_is_one_line(tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as error:
        Recording(altered(tmp_path / "a", sql))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE frames SET name = '../../etc/x' WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET name = x'00ff' WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET number = 'x' WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET media_ns = 'x' WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET media_ns = -1 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET duration_ns = 9223372036854775807 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET media_ns = 4611686018427387904 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET duration_ns = 4611686018427387904 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET duration_ns = -1 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET number = -1 WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET source = 'other' WHERE id = 1", "malformed name or number"),
        ("UPDATE frames SET image = x'89504e47' WHERE id = 1", "neither PNG nor JPEG"),
        ("UPDATE frames SET image = 'text' WHERE id = 1", "neither PNG nor JPEG"),
        ("UPDATE frames SET image = substr(image, 1, 40) WHERE id = 1", "cannot be decoded"),
        ("UPDATE frames SET image = zeroblob(300000000) WHERE id = 1", "row 1 is gone"),
    ],
)
def test_a_damaged_frame_is_one_line(tmp_path: Path, sql: str, message: str) -> None:
    with Recording(altered(tmp_path / "a", sql)) as recording:
        with pytest.raises(SourceError, match=message):
            recording.frame(1)
        assert recording.frame(2).index == 1


def test_the_latest_time_and_the_longest_text_are_read(tmp_path: Path) -> None:
    latest = 2**62 - 1
    path = altered(tmp_path / "a", "UPDATE frames SET media_ns = ?, duration_ns = ? WHERE id = 1", latest, latest)
    with Recording(path) as recording:
        assert (recording.frame(1).media_ns, recording.frame(1).duration_ns) == (latest, latest)
    padded = "UPDATE meta SET value = value || substr(?, 1, ? - length(value)) WHERE key = 'spec'"
    with Recording(altered(tmp_path / "b", padded, " " * 2**16, 2**16)) as recording:
        assert recording.spec == SPEC
    with pytest.raises(SourceError, match="nothing readable of its model"):
        Recording(altered(tmp_path / "c", padded, " " * 2**17, 2**16 + 1))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_hostile_header_allocates_nothing(tmp_path: Path, suffix: str) -> None:
    data = bytearray(cv2.imencode(suffix, np.zeros((16, 24, 3), np.uint8))[1].tobytes())
    assert picture_size(bytes(data)) == (24, 16)
    if suffix == ".png":
        data[16:24] = b"\x00\x00\xff\xff" * 2
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = b"\xff\xff" * 2
    path = altered(tmp_path / "a", "UPDATE frames SET image = ? WHERE id = 1", bytes(data))
    with Recording(path) as recording, pytest.raises(SourceError, match=f"65535x65535, more than {MAX_PIXELS}"):
        recording.frame(1)


def png_of(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", width, height)


def test_8192_by_8192_pixels_may_be_decoded(tmp_path: Path) -> None:
    for height, message in ((8192, "cannot be decoded"), (8193, "8192x8193, more than 67108864 pixels")):
        path = altered(tmp_path / str(height), "UPDATE frames SET image = ? WHERE id = 1", png_of(8192, height))
        with Recording(path) as recording, pytest.raises(SourceError, match=message):
            recording.frame(1)


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


START, FRAME = b"\xff\xd8", segment(0xC2, struct.pack(">BHHB", 8, 16, 24, 1))
BEFORE = segment(0xE0, b"JFIF") + segment(0xFE, b"a note") + segment(0xC4) + segment(0xDA, b"x") + segment(0xCC)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png_of(24, 16), (24, 16)),
        (png_of(24, 16)[:-1], None),
        (png_of(24, 16).replace(b"IHDR", b"IDAT"), None),
        (START + FRAME[:9], (24, 16)),
        (START + FRAME[:8], None),
        (START + BEFORE + FRAME, (24, 16)),
        (START + b"\xff\xe0\0\0" + FRAME, (24, 16)),
        (START + segment(0xBF) + FRAME, None),
        (START + segment(0xD0) + FRAME, None),
        (START + segment(0xD9) + FRAME, None),
        (START + b"\xff" + FRAME, None),
        (START + b"\0" + FRAME, None),
        (START, None),
        (b"RIFF" + FRAME, None),
        (b"", None),
    ],
)
def test_the_size_stands_in_the_header(data: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(data) == size


@pytest.mark.parametrize("marker", [0xC0, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF])
def test_every_way_of_coding_has_its_size_in_the_same_place(marker: int) -> None:
    assert picture_size(START + BEFORE + FRAME.replace(b"\xff\xc2", bytes((0xFF, marker)))) == (24, 16)


def test_missing_cut_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not there"):
        Recording(tmp_path / "none")
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(SourceError, match="damaged or no recording"):
        Recording(tmp_path / "text")
    record(tmp_path / "a", [result_of(index) for index in range(20)])
    whole = (tmp_path / "a").read_bytes()
    for size in (0, 100, 5000, len(whole) // 2, len(whole) - 1000):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(SourceError), Recording(tmp_path / "cut") as recording:
            for row in recording.order:
                recording.frame(row)
