"""Splits keep drives apart, are the same everywhere, and say why they cannot be made."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgeseg.app.data import sides
from edgeseg.data.opening import opened
from edgeseg.data.split import RULES, groups_of, part_of, prefix_of, rule_from, seconds_of
from edgeseg.errors import UsageError
from tests.data.conftest import sample, write

DRIVES = {"0001TP": 62, "0006R0": 101, "0016E5": 204}
CAMVID = [Path(f"{drive}_{30 * number:05d}.png") for drive, count in DRIVES.items() for number in range(count)]


@pytest.mark.parametrize(
    ("stem", "prefix"),
    [
        ("0016E5_00390", "0016E5"),
        ("Seq05VD_f01500", "Seq05VD"),
        ("aachen_000001_000019_leftImg8bit", "aachen_000001"),
        ("frame12", "frame"),
        ("a (12)", "a"),
        ("frame_0012_cam1", "frame"),
        ("lung_v2", "lung"),
        ("0012", ""),
        ("2024-05-01_cam1_0003", "2024-05-01_cam1"),
        ("lung", "lung"),
    ],
)
def test_the_prefix_is_what_names_of_a_drive_share(stem: str, prefix: str) -> None:
    assert prefix_of(stem) == prefix


STEMS = {
    "%Y%m%d_%H%M%S": None,
    "%Y-%m-%d_%H-%M-%S": None,
    "%Y-%m-%dT%H-%M-%S": None,
    "%Y-%m-%d %H.%M.%S": None,
    "frame_%Y-%m-%d_%H:%M:%S": None,
    "Screenshot from %Y-%m-%d %H-%M-%S": None,
    "Screenshot %Y-%m-%d at %H.%M.%S": None,
    "cam1_%Y%m%d%H%M%S": None,
    "%Y%m%d_%H%M%S_cam2": None,
    "%Y%m%d_%H%M%S_{index:06d}": None,
    "IMG_%Y%m%d_%H%M%S{ms:03d}": None,
    "%Y%m%d_%H%M%S_{ms:03d}": None,
    "{unix}": None,
    "{unix}.{ms:03d}": None,
    "{unix}_{ms:03d}000000": None,
    "{unix}{ms:03d}000000": None,
    "{unix}{ms:03d}000_left": None,
    "%Y-%m-%d_frame_{index:05d}": 1.0,
    "VID_20240304_100000_{index:05d}": 1.0,
    "frame{index:05d}_leftImg8bit": 1.0,
    "{index:05d}_640x480": 1.0,
    "{index:05d}_v2": 1.0,
    "{index:05d}_1080p_cam1": 1.0,
    "seq1_{index:05d}_rgb_mp4": 1.0,
    "frame_{index}_of_600": 1.0,
    "street ({index})": 1.0,
    "seq05vd{index:05d}": 1.0,
    "{index:05d}_jpg.rf.{digest}": 1.0,
    "drive_mp4-{index}_jpg.rf.{digest}": 1.0,
}
"""How people and programs call pictures -> frames per second where names hold no time."""


@pytest.mark.parametrize("form", STEMS)
@settings(max_examples=10)
@given(
    step=st.integers(1, 40),
    gap=st.integers(1, 60),
    fold=st.integers(1, 3),
    start=st.sampled_from([1709546400, 1709596770, 1714557630]),
)
def test_the_gap_is_kept_in_every_form_of_names(form: str, step: int, gap: int, fold: int, start: int) -> None:
    """Past midnight, too. The truth is the time that each name was made from."""
    fps = STEMS[form]
    step = 1 if fps else step
    times = [start + step * index for index in range(240)]
    files = []
    for index, time in enumerate(times):
        moment = datetime.datetime.fromtimestamp(start if fps else time, datetime.timezone.utc)
        digest = hashlib.md5(str(index).encode()).hexdigest()
        files.append(Path(moment.strftime(form).format(index=index, unix=time, ms=0, digest=digest) + ".jpg"))
    rule = f"time-gap,gap={gap}" + (f",fps={fps}" if fps else "")
    parts = part_of(rule_from(rule, f"{fold}/3"), files, groups_of(files))
    assert len(parts["val"]) == 80
    assert min(abs(times[one] - times[other]) for one in parts["val"] for other in parts["train"]) >= gap


def test_videos_are_drives_where_their_pictures_are_counted() -> None:
    files = [Path(f"VID_20240304_10{minute:02d}00_{number:04d}.jpg") for minute in (0, 30) for number in range(5)]
    assert set(groups_of(files)) == {"VID_20240304_100000", "VID_20240304_103000"}
    moments = [Path(f"20240304_1000{second:02d}.jpg") for second in range(5)] + [Path("20240305_100000.jpg")]
    assert set(groups_of(moments)) == {"20240304", "20240305"}


def test_times_in_names() -> None:
    assert seconds_of("a_2024-05-01_10-00-30", None) == seconds_of("x20240501T100030", None) == 1714557630
    assert seconds_of("cam_1714557630", None) == seconds_of("cam_1714557630000", None) == 1714557630
    assert seconds_of("0016E5_00390", 30) == 13 and seconds_of("0016E5_00390", None) is None
    assert seconds_of("lung", 30) is None and seconds_of("2024-13-41_10-00-30", 10) == 3


@pytest.mark.parametrize("text", ["by=prefix", "random,seed=3", "time-gap,gap=4,fps=30"])
def test_folds_cover_all_once_and_do_not_depend_on_order(text: str) -> None:
    groups = groups_of(CAMVID)
    seen: list[int] = []
    for fold in range(1, 4):
        rule = rule_from(text, f"{fold}/3")
        parts = part_of(rule, CAMVID, groups)
        assert not set(parts["train"]) & set(parts["val"])
        seen += parts["val"]
        back = part_of(rule, CAMVID[::-1], groups[::-1])
        assert {CAMVID[::-1][i].name for i in back["val"]} == {CAMVID[i].name for i in parts["val"]}
        if text == "by=prefix":
            assert {groups[i] for i in parts["val"]} == {["0016E5", "0006R0", "0001TP"][fold - 1]}
    assert sorted(seen) == list(range(len(CAMVID)))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 5), st.floats(0.5, 40))
def test_no_training_image_is_within_the_gap(fold: int, gap: float) -> None:
    parts = part_of(rule_from(f"time-gap,gap={gap:.2f},fps=30", f"{fold}/5"), CAMVID, groups_of(CAMVID))
    times = [seconds_of(path.stem, 30) or 0.0 for path in CAMVID]
    groups = groups_of(CAMVID)
    for one in parts["val"]:
        near = [abs(times[one] - times[other]) for other in parts["train"] if groups[other] == groups[one]]
        assert not near or min(near) >= float(f"{gap:.2f}") - 1e-6
    assert len(parts["train"]) + len(parts["val"]) <= len(CAMVID)


def test_a_random_split_is_the_same_on_every_machine() -> None:
    parts = part_of(rule_from("random", "1/100"), CAMVID, groups_of(CAMVID))
    assert [CAMVID[i].stem for i in parts["val"]] == ["0006R0_00600", "0016E5_01470", "0016E5_02460", "0016E5_05400"]


def test_folders_are_kept_whole(tmp_path: Path) -> None:
    for drive in ("a", "b", "c"):
        for index in range(2):
            picture, ids = sample(index)
            write(tmp_path / "images" / drive / f"{index}.png", picture)
            write(tmp_path / "masks" / drive / f"{index}.png", ids)
    names = {}
    for fold in "123":
        data = opened(f"data://{tmp_path}?split=by=folder&fold={fold}/3&part=val")
        names[fold] = {path.parent.name for path in data.files}
        assert len(data) == 2 and data.description.endswith(f"val of split by=folder, fold {fold}/3: 2 images")
    assert sorted(map(sorted, names.values())) == [["a"], ["b"], ["c"]]
    assert len(opened(f"data://{tmp_path}?split=prefix&part=train")) == 4, "folders below are drives too"


@pytest.mark.parametrize(
    ("text", "fold", "said"),
    [
        ("by=town", None, "`split` is by=folder, prefix, time-gap or random"),
        ("prefix,gap=3", None, "`split` by=prefix has no more to say, got 'gap=3'"),
        ("random,seed=x", None, "`split` by=random has seed=NUMBER, got 'seed=x'"),
        ("prefix", "0/3", "`fold` is I/N such as 1/5"),
        ("prefix", "4/3", "`fold` is I/N such as 1/5"),
        ("prefix", "1/4", "there are 3 prefixes of names, too few for 4 folds; pass fold=I/3"),
        ("folder", None, "all images have the same folders"),
        ("time-gap", None, "367 names tell no time .*split=time-gap,gap=10,fps=30"),
        ("time-gap,gap=9999,fps=30", None, "leaves no image for training"),
    ],
)
def test_what_cannot_be_split_is_one_line(text: str, fold: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        part_of(rule_from(text, fold), CAMVID, groups_of(CAMVID))
    assert set(RULES) == {"folder", "prefix", "time-gap", "random"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"20240304_100000_{index:05d}" for index in range(9)], "9 images have one time .*counts frames, pass fps=N"),
        (
            ["a_2024-03-04_10-00-00", "b_2024-03-04_10-00-05"],
            "each image is a drive of its own .a, b.*no time",
        ),
    ],
)
def test_names_without_time_between_them_are_told(names: list[str], said: str) -> None:
    files = [Path(f"{name}.png") for name in names]
    with pytest.raises(UsageError, match=said):
        part_of(rule_from("time-gap"), files, groups_of(files))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sets=st.lists(
        st.lists(st.sampled_from(["north", "south", "east", "mid"]), min_size=1, unique=True), min_size=2, max_size=3
    ),
    rule=st.sampled_from(["by=prefix", "by=folder", "by=random", "by=time-gap,gap=2,fps=1"]),
    fold=st.integers(1, 2),
)  # fmt: skip
def test_several_data_sets_are_split_together(
    tmp_path_factory: pytest.TempPathFactory, sets: list[list[str]], rule: str, fold: int
) -> None:
    """A drive that goes on in another data set is on one side; no image is on both, and none is lost."""
    assume(rule != "by=prefix" or len({drive for drives in sets for drive in drives}) > 1)
    above = tmp_path_factory.mktemp("sets")
    names, first = [], 0
    for number, drives in enumerate(sets):
        for drive in drives:
            for index in range(4):
                write(above / f"a|b {number}" / f"{drive}_{first + index:04d}.png", np.zeros((4, 4, 3), np.uint8))
        names.append(str(above / f"a|b {number}"))
        first += 4
    opened_sides = [[opened(name) for name in side] for side in sides(names, None, rule, f"{fold}/2")]
    files = [{path for data in side for path in data.files} for side in opened_sides]
    groups = [{group for data in side for group in data.groups} for side in opened_sides]
    assert files[0] and files[1] and not files[0] & files[1]
    if rule == "by=prefix":
        assert not groups[0] & groups[1]
    if "time" in rule:
        for one in files[1]:
            drive, at = one.stem.split("_")
            assert all(abs(int(at) - int(other.stem[-4:])) >= 2 for other in files[0] if other.stem.startswith(drive))
    else:
        assert len(files[0] | files[1]) == 4 * sum(map(len, sets))


def test_sides_of_a_training() -> None:
    assert sides(["a"], "b", None, None) == (["a"], ["b"]) and sides(["a"], None, None, None) == (["a"], [])
    rule = "split=by=prefix&fold=2/3"
    assert sides(["a"], None, "by=prefix", "2/3") == ([f"data://a?{rule}&part=train"], [f"data://a?{rule}&part=val"])
    parts = sides(["a", "voc://b?set=x"], None, "by=prefix", "2/3")
    beside = f"{rule}&beside=voc://b%3Fset=x"
    assert parts[0] == [f"data://a?{beside}&part=train", f"voc://b?set=x&{rule}&beside=a&part=train"]
    assert parts[1][0] == f"data://a?{beside}&part=val"
    for wrong, said in (
        ((["a"], "b", "prefix", None), "leave `validation` out"),
        ((["a"], None, None, "1/3"), "pass `split` too"),
        ((["demo://street"], None, "prefix", None), "is rendered and cannot be split"),
    ):
        with pytest.raises(UsageError, match=said):
            sides(*wrong)  # type: ignore[arg-type]
