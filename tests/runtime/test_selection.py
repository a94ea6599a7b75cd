from __future__ import annotations

import itertools
import json
import signal
import tracemalloc
from pathlib import Path
from typing import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest

from edgeseg.demo.street import StreetDataset
from edgeseg.descriptors import descriptor_from_image, sharpness_from_image
from edgeseg.errors import EdgesegError, ImageError, SinkError, SourceError, UsageError
from edgeseg.images import image_files, read_image, write_png
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources import EndOfStream, FrameSource, source_from_uri
from edgeseg.selection.choice import Selection, SelectionOptions, selected_frames
from edgeseg.selection.chooser import REJECTIONS, FrameChooser
from edgeseg.selection.folder import own_folder
from tests.fakes import ScriptedSource

BLACK = np.full((120, 160, 3), 6, np.uint8)
WHITE = np.full((120, 160, 3), 253, np.uint8)


def street(seed: int, frames: int, step: int = 45) -> list[np.ndarray]:
    dataset = StreetDataset(f"demo://street?seed={seed}&frames={frames}&step={step}&size=160x120")
    return [dataset[index].frame for index in range(frames)]


@pytest.fixture(scope="module")
def distinct() -> list[np.ndarray]:
    """Twenty-four frames of six streets: none like another, all sharp."""
    return [frame for seed in range(6) for frame in street(seed, 4, 400)]


@pytest.fixture(scope="module")
def stop_and_go() -> list[np.ndarray]:
    """Four short drives, each followed by a long wait at a red light: 20 moving and 60 still frames with noise."""
    rng, frames = np.random.default_rng(0), []
    for drive in (street(seed, 20, 18) for seed in range(4)):
        frames += drive
        frames += [noisy(drive[-1], rng) for _ in range(60)]
    return frames


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2))


def written(folder: Path, images: Sequence[np.ndarray]) -> FrameSource:
    folder.mkdir()
    for index, image in enumerate(images):
        write_png(folder / f"shot{index:03d}.png", image)
    return source_from_uri(str(folder))


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) between descriptors, pair by pair."""
    return np.array([[float(np.linalg.norm(a - b)) for b in second] for a in first])


def spread_of(images: Sequence[np.ndarray]) -> float:
    """By definition: the least distance over all pairs."""
    looks = [descriptor_from_image(image) for image in images]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(looks, 2))


def evenly(images: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    return [images[place] for place in np.linspace(0, len(images) - 1, count).round().astype(int)]


def test_every_kind_of_bad_frame_is_counted_and_none_is_written(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    bad = {
        "dark": [BLACK, np.zeros_like(BLACK), np.where(rng.random((120, 160, 1)) < 0.001, 255, BLACK).astype(np.uint8)],
        "bright": [WHITE, np.full_like(WHITE, 255)],
        "blurred": [blurred(distinct[0]), blurred(distinct[9]), np.full_like(BLACK, 90)],
        "duplicate": [distinct[3], distinct[3], distinct[20], noisy(distinct[5], rng)],
    }
    stream = [bad["blurred"][0], *distinct[:12], *bad["dark"], *bad["bright"], *distinct[12:], *bad["duplicate"]]
    selection = selected_frames(
        written(tmp_path / "in", [*stream, *bad["blurred"][1:]]), tmp_path / "out", SelectionOptions(count=50)
    )
    counts = {reason: len(frames) for reason, frames in bad.items()}
    assert selection.rejected == {**counts, "redundant": 0}
    assert selection.seen == 24 + sum(counts.values()) and selection.ended == "end of stream"
    files = image_files(tmp_path / "out")
    assert [path.name for path in files] == [frame.file for frame in selection.chosen]
    for path, original in zip(files, distinct):
        np.testing.assert_array_equal(read_image(path), original)


def test_the_report_says_what_came_from_where(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    selection = selected_frames(
        written(tmp_path / "in", [BLACK, *distinct]), tmp_path / "out", SelectionOptions(count=6)
    )
    report = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert report == json.loads(json.dumps(selection.to_json()))
    assert "25 images in" in report["source"] and report["reasons"] == REJECTIONS
    assert report["rejected"]["dark"] == 1 and report["rejected"]["redundant"] == 18
    assert sum(report["rejected"].values()) + len(report["chosen"]) == report["seen"] == 25
    for frame in report["chosen"]:
        assert frame["name"] == f"shot{frame['index']:03d}" and frame["nearest"] >= report["spread"]
        np.testing.assert_array_equal(read_image(tmp_path / "out" / frame["file"]), distinct[frame["index"] - 1])
    chosen = [distinct[frame["index"] - 1] for frame in report["chosen"]]
    assert report["spread"] == pytest.approx(spread_of(chosen), rel=1e-4)
    assert report["uniform_spread"] == pytest.approx(spread_of(evenly(distinct, 6)), rel=1e-4)


def test_it_beats_even_spacing_where_the_camera_stands_still(tmp_path: Path, stop_and_go: list[np.ndarray]) -> None:
    count = 24
    selection = selected_frames(ScriptedSource(stop_and_go), tmp_path / "out", SelectionOptions(count=count))
    assert len(selection.chosen) == count
    chosen = [stop_and_go[frame.index] for frame in selection.chosen]
    even = evenly(stop_and_go, count)
    assert spread_of(chosen) > 10 * spread_of(even)
    assert selection.spread == pytest.approx(spread_of(chosen), rel=1e-4)
    assert selection.uniform_spread < 0.1 * selection.spread
    looks = np.stack([descriptor_from_image(frame) for frame in stop_and_go])
    furthest = [
        distances(looks, np.stack([descriptor_from_image(frame) for frame in some])).min(axis=1).max()
        for some in (chosen, even)
    ]
    assert furthest[0] < furthest[1], "no frame is as far from the chosen as one is from the evenly spaced"


def test_one_pass_comes_near_to_the_farthest_point_rule_that_sees_all(stop_and_go: list[np.ndarray]) -> None:
    chooser = FrameChooser(32)
    for index, image in enumerate(stop_and_go):
        candidate = chooser.judge(Frame(image, index, 0, ""))
        if candidate is not None:
            chooser.keep(candidate)
    looks = np.stack([descriptor_from_image(image) for image in stop_and_go])
    centres, nearest = [0], np.full(len(looks), np.inf)
    while len(centres) < 33:
        nearest = np.minimum(nearest, np.linalg.norm(looks - looks[centres[-1]], axis=1))
        centres.append(int(nearest.argmax()))
        offline = nearest.max()
    assert chooser.spread > 0.85 * offline


def test_what_is_kept_is_bounded_and_its_spread_never_falls(tmp_path: Path, stop_and_go: list[np.ndarray]) -> None:
    spreads: list[float] = []

    def watch(chooser: FrameChooser) -> None:
        files = {path.name for path in (tmp_path / "out").iterdir()}
        assert files == {f"{kept.index:09d}.png" for kept in chooser.kept()} and len(files) <= 12
        if len(files) == 12:
            spreads.append(chooser.spread)

    selection = selected_frames(
        ScriptedSource(stop_and_go[:200]), tmp_path / "out", SelectionOptions(count=12), report=watch
    )
    assert spreads == sorted(spreads) and spreads[-1] > spreads[0]
    assert selection.spread == pytest.approx(spreads[-1], rel=1e-4)


class _Endless(FrameSource):
    """A pan over a painted wall that stops after so many frames; a frame exists only while it is looked at."""

    description, is_live, fps = "pan", False, 25.0

    def __init__(self, frames: int) -> None:
        self._frames, self._index = frames, 0
        rng = np.random.default_rng(2)
        coarse, fine = (rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (16, 1024))
        self._wall = cv2.addWeighted(cv2.resize(coarse, (1024, 1024)), 0.8, fine, 0.2, 0)

    def open(self) -> None:
        pass

    def read(self) -> Frame:
        if self._index == self._frames:
            raise EndOfStream
        self._index += 1
        x, y = 7 * self._index % 800, 11 * self._index % 800
        return Frame(self._wall[y : y + 200, x : x + 200].copy(), self._index - 1, 0, "")

    def close(self) -> None:
        pass


def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    peaks = []
    for frames in (150, 450):
        source = _Endless(frames)
        tracemalloc.start()
        selection = selected_frames(source, tmp_path / str(frames), SelectionOptions(count=16))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert selection.seen == frames and len(selection.chosen) == 16
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 16 * 200 * 200 * 3, "not even the chosen pictures are held"


def test_the_same_frames_give_the_same_choice_to_the_byte(tmp_path: Path, stop_and_go: list[np.ndarray]) -> None:
    for run in ("a", "b"):
        selected_frames(ScriptedSource(stop_and_go[::2]), tmp_path / run, SelectionOptions(count=20))
    files = [sorted((tmp_path / run).iterdir()) for run in ("a", "b")]
    assert [path.name for path in files[0]] == [path.name for path in files[1]] and len(files[0]) == 21
    assert all(first.read_bytes() == second.read_bytes() for first, second in zip(*files))


def test_a_rendered_camera_without_dropping_is_repeatable(tmp_path: Path) -> None:
    def run(name: str) -> Selection:
        source = source_from_uri("demo://street?frames=30&size=160x120&fps=2000&step=300")
        return selected_frames(source, tmp_path / name, SelectionOptions(count=8, latest=False))

    first, second = run("a"), run("b")
    assert [frame.index for frame in first.chosen] == [frame.index for frame in second.chosen]
    assert first.dropped == 0 and first.seen == 30 and first.rejected == second.rejected


def test_a_video_in_the_order_of_time(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for image in distinct:
        for _ in range(6):  # each scene stands for 6 frames, of which one is enough
            writer.write(image)
        writer.write(np.zeros_like(BLACK))
    writer.release()
    selection = selected_frames(source_from_uri(str(clip)), tmp_path / "out", SelectionOptions(count=100))
    assert selection.rejected == {"dark": 24, "bright": 0, "blurred": 0, "duplicate": 24 * 5, "redundant": 0}
    assert [frame.index for frame in selection.chosen] == [7 * scene for scene in range(24)]
    names = [path.name for path in image_files(tmp_path / "out")]
    assert names == sorted(names) == [frame.file for frame in selection.chosen]


def test_time_stamps(tmp_path: Path) -> None:
    stored = selected_frames(_Endless(50), tmp_path / "stored", SelectionOptions(count=5))
    assert [frame.seconds for frame in stored.chosen] == [round(frame.index / 25, 3) for frame in stored.chosen]
    assert stored.started_at is None
    source = source_from_uri("demo://street?frames=8&size=160x120&fps=100&step=90")
    live = selected_frames(source, tmp_path / "live", SelectionOptions(count=8, latest=False))
    times = [frame.seconds for frame in live.chosen if frame.seconds is not None]
    assert times[0] == 0 and times == sorted(set(times)) and times[-1] >= 0.05
    assert live.started_at is not None and live.started_at.endswith("+00:00")


def test_a_camera_that_starts_out_of_focus(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    stream = [*(blurred(image) for image in distinct[:10]), *distinct]
    selection = selected_frames(ScriptedSource(stream), tmp_path / "out", SelectionOptions(count=40))
    assert all(frame.index >= 10 for frame in selection.chosen), "kept before there was a median, and removed later"
    assert selection.rejected["blurred"] == 10
    assert len(image_files(tmp_path / "out")) == len(selection.chosen) == 24


def test_sharpness_is_about_focus_and_not_about_contrast(distinct: list[np.ndarray]) -> None:
    for image in distinct:
        faint = (image // 2 + 60).astype(np.uint8)
        assert sharpness_from_image(faint) == pytest.approx(sharpness_from_image(image), rel=0.25)
        assert sharpness_from_image(blurred(image)) < 0.35 * sharpness_from_image(image)
    assert sharpness_from_image(np.full((50, 60, 3), 90, np.uint8)) == 0


def test_distance_grows_with_the_change(distinct: list[np.ndarray]) -> None:
    image, rng = distinct[0], np.random.default_rng(3)
    looks = descriptor_from_image(image)
    assert looks.shape == (223,) and looks.dtype == np.float32

    def from_it(other: np.ndarray) -> float:
        return float(np.linalg.norm(descriptor_from_image(other) - looks))

    brighter = np.clip(image * 1.15, 0, 255).astype(np.uint8)
    assert from_it(image) == 0 < from_it(noisy(image, rng)) < 0.02 < from_it(brighter) < from_it(distinct[-1])
    assert from_it(cv2.resize(image, (320, 240))) < 0.05, "the size of the frame is no difference"


def test_a_single_frame_has_no_distance_and_the_report_is_json_all_the_same(
    tmp_path: Path, distinct: list[np.ndarray]
) -> None:
    selection = selected_frames(ScriptedSource(distinct), tmp_path / "out", SelectionOptions(count=1))
    assert selection.spread == float("inf") and len(selection.chosen) == 1
    text = (tmp_path / "out" / "selection.json").read_text()
    report = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert report["spread"] is report["uniform_spread"] is report["chosen"][0]["nearest"] is None


@pytest.mark.parametrize("limit", ["frames", "seconds"])
def test_limits_of_a_live_source(tmp_path: Path, limit: str) -> None:
    source = source_from_uri("demo://street?size=160x120&step=90")
    if limit == "frames":
        selection = selected_frames(source, tmp_path / "out", SelectionOptions(count=5, frames=12))
        assert selection.seen == 12 and selection.ended == "frame limit"
    else:
        selection = selected_frames(source, tmp_path / "out", SelectionOptions(count=5, seconds=1.0))
        assert selection.seen > 1 and selection.ended == "time limit"
        # The last read may begin before the limit and end after it, on a busy machine long after.
        times = [frame.seconds for frame in selection.chosen]
        assert None not in times and times == sorted(times)
    assert len(image_files(tmp_path / "out")) == len(selection.chosen)


def test_no_frame_yet_is_waited_for_and_not_counted(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    script = [None, distinct[0], None, None, distinct[5], distinct[10]]
    assert (
        selected_frames(ScriptedSource(script, live=True), tmp_path / "out", SelectionOptions(latest=False)).seen == 3
    )


def test_ctrl_c_keeps_what_was_chosen(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    selection = selected_frames(ScriptedSource([*distinct[:9], KeyboardInterrupt(), *distinct]), tmp_path / "out")
    assert selection.ended == "interrupted" and selection.seen == 9
    assert len(image_files(tmp_path / "out")) == len(selection.chosen) == 9
    assert json.loads((tmp_path / "out" / "selection.json").read_text())["ended"] == "interrupted"


@pytest.mark.parametrize("delay_s", [0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12])
def test_ctrl_c_at_any_moment_leaves_folder_and_report_in_step(
    tmp_path: Path, distinct: list[np.ndarray], delay_s: float
) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, delay_s)
    try:
        selection = selected_frames(
            ScriptedSource(500 * distinct), tmp_path / "out", SelectionOptions(count=6, min_distance=0)
        )
    except SourceError as error:
        assert "0 usable frames" in str(error) and not (tmp_path / "out").exists(), "before the first frame"
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # Python itself drops an exception that a signal raises inside a destructor; then the stream goes on to its end.
    assert selection.ended in ("interrupted", "end of stream")
    assert sum(selection.rejected.values()) + len(selection.chosen) == selection.seen
    names = [frame.file for frame in selection.chosen]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "selection.json"]
    for frame in selection.chosen:
        np.testing.assert_array_equal(read_image(tmp_path / "out" / frame.file), distinct[frame.index % 24])


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_write_that_is_interrupted_at_its_end_leaves_no_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    def interrupted(path: Path, data: bytes, **how: object) -> None:
        path.write_bytes(data if is_ours else b"somebody's")
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeseg.selection.folder.write_new", interrupted)
    with pytest.raises(KeyboardInterrupt), own_folder(tmp_path / "out") as files:
        files.write("a.png", b"ours")
    assert (tmp_path / "out" / "a.png").exists() is not is_ours


@pytest.mark.parametrize("name", ["IMG_3344", "a b (1)", "00012", "ü" * 120, "x" * 251, "nö\udcff"])
def test_chosen_frames_keep_the_names_of_their_files(tmp_path: Path, distinct: list[np.ndarray], name: str) -> None:
    (tmp_path / "in").mkdir()
    for index, image in enumerate(distinct[:3]):
        own = (tmp_path / "in" / f"{index}.png", tmp_path / "in" / f"{name}.png")[index == 1]
        write_png(own, image)
    selection = selected_frames(source_from_uri(str(tmp_path / "in")), tmp_path / "out", SelectionOptions(count=3))
    assert len(selection.chosen) == 3
    assert sorted(path.name for path in image_files(tmp_path / "out")) == [frame.file for frame in selection.chosen]
    (one,) = (frame for frame in selection.chosen if frame.name == name)
    number, _, rest = one.file[:-4].partition("-")
    assert number == f"{one.index:09d}" and rest and name.startswith(rest)


def test_a_live_source_that_breaks_leaves_its_frames_and_is_an_error(
    tmp_path: Path, distinct: list[np.ndarray]
) -> None:
    script = [*distinct[:6], SourceError("/dev/video0 stopped")]
    with pytest.raises(SourceError, match=r"/dev/video0 stopped; the 6 frames chosen until then are in .*out"):
        selected_frames(ScriptedSource(script, live=True), tmp_path / "out", SelectionOptions(latest=False))
    assert json.loads((tmp_path / "out" / "selection.json").read_text())["ended"] == "source broke"
    assert len(image_files(tmp_path / "out")) == 6
    with pytest.raises(SourceError, match="/dev/video0 stopped$"):
        selected_frames(
            ScriptedSource(script[-3:], live=True), tmp_path / "few", SelectionOptions(latest=False, min_count=3)
        )
    assert not (tmp_path / "few").exists()


def test_stored_frames_that_break_leave_nothing(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    source = written(tmp_path / "in", distinct)
    cut = tmp_path / "in" / "shot020.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(ImageError, match="shot020.png is truncated"):
        selected_frames(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError):
        selected_frames(source, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(SourceError, match="^the video is damaged$"):
        selected_frames(ScriptedSource([*distinct, SourceError("the video is damaged")]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_usable_frames_are_refused_with_the_reasons(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    stream = [BLACK, BLACK, *distinct[:3], distinct[0]]
    with pytest.raises(SourceError, match=r"3 usable frames among 6 seen \(2 dark, 1 duplicate; end of stream\)"):
        selected_frames(ScriptedSource(stream), tmp_path / "out", SelectionOptions(min_count=16))
    assert not (tmp_path / "out").exists()
    with pytest.raises(SourceError, match="0 usable frames among 2 seen"):
        selected_frames(ScriptedSource(stream[:2]), tmp_path / "out")


def test_a_folder_in_use_is_left_alone(tmp_path: Path, distinct: list[np.ndarray]) -> None:
    old = tmp_path / "out" / "000000000.png"
    old.parent.mkdir()
    old.write_bytes(b"older")
    with pytest.raises(UsageError, match="is not empty; name a new or empty folder"):
        selected_frames(ScriptedSource(distinct), old.parent)
    assert old.read_bytes() == b"older" and len(list(old.parent.iterdir())) == 1
    for no_folder in (old, old / "below"):
        with pytest.raises(SinkError, match="cannot be a folder of frames"):
            selected_frames(ScriptedSource(distinct), no_folder)


_Wrong = Callable[[FrameSource, Path], Selection]


@pytest.fixture(
    params=[
        ({"count": 0}, "must be 1 to 2048, got 0"),
        ({"count": 2049}, "must be 1 to 2048, got 2049"),
        ({"count": 8, "min_count": 16}, "`min_count` must be 1 to `count`, got 16 with `count` 8"),
        ({"min_count": 0}, "`min_count` must be 1"),
        ({"frames": -1}, "limits are 0"),
        ({"seconds": float("nan")}, "limits are 0"),
        ({"seconds": 3.0}, "scripted is not live"),
        ({"min_distance": -0.1}, "min_distance must be 0 or more"),
        ({"min_sharpness": 1.0}, "min_sharpness from 0 to below 1"),
    ],
    ids=lambda param: ",".join(param[0]),
)
def wrong(request: pytest.FixtureRequest) -> Iterator[tuple[_Wrong, str]]:
    """A call with one argument that makes no sense, and what it is answered."""
    arguments, answer = request.param
    yield (lambda source, folder: selected_frames(source, folder, SelectionOptions(**arguments))), answer


def test_arguments_that_make_no_sense(wrong: tuple[_Wrong, str], tmp_path: Path, distinct: list[np.ndarray]) -> None:
    call, answer = wrong
    source = ScriptedSource(distinct)
    with pytest.raises(UsageError) as refusal:
        call(source, tmp_path / "out")
    assert answer in str(refusal.value) and isinstance(refusal.value, EdgesegError)
    assert source.opened == 0 and not (tmp_path / "out").exists()


def test_real_drives(camvid: Path, tmp_path: Path) -> None:
    selection = selected_frames(source_from_uri(str(camvid / "val")), tmp_path / "out", SelectionOptions(count=32))
    assert selection.seen == 101 and len(selection.chosen) == 32
    assert selection.spread > 1.5 * selection.uniform_spread
    assert {reason: selection.rejected[reason] for reason in ("dark", "bright", "blurred")} == {
        "dark": 0,
        "bright": 0,
        "blurred": 0,
    }
