"""Splits keep drives apart, are the same everywhere, and say why they cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
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
        ("0012", ""),
        ("2024-05-01_cam1_0003", "2024-05-01_cam1"),
        ("lung", "lung"),
    ],
)
def test_the_prefix_is_what_names_of_a_drive_share(stem: str, prefix: str) -> None:
    assert prefix_of(stem) == prefix


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


def test_sides_of_a_training() -> None:
    assert sides(["a"], "b", None, None) == (["a"], ["b"]) and sides(["a"], None, None, None) == (["a"], [])
    parts = sides(["a", "voc://b?set=x"], None, "by=prefix", "2/3")
    rule = "split=by=prefix&fold=2/3"
    assert parts[0] == [f"data://a?{rule}&part=train", f"voc://b?set=x&{rule}&part=train"]
    assert parts[1][0] == "data://a?split=by=prefix&fold=2/3&part=val"
    for wrong, said in (
        ((["a"], "b", "prefix", None), "leave `validation` out"),
        ((["a"], None, None, "1/3"), "pass `split` too"),
        ((["demo://street"], None, "prefix", None), "is rendered and cannot be split"),
    ):
        with pytest.raises(UsageError, match=said):
            sides(*wrong)  # type: ignore[arg-type]
