"""What own ids become: by exact name before a name that is nearly the same, and never two things at once."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.data.class_map import class_map
from edgeseg.data.layouts.base import Asked, Found
from edgeseg.errors import UsageError
from edgeseg.spec import IGNORE_ID, ModelSpec
from tests.data.conftest import SIZE_HW, SPEC

SPELLINGS = ("traffic light", "traffic-light", "Traffic Light", "TRAFFIC_LIGHT")


def spec_of(*classes: str) -> ModelSpec:
    return ModelSpec(("background", *classes), tuple((own, own, own) for own in range(len(classes) + 1)), SIZE_HW)


def table(names: dict[int, str], spec: ModelSpec = SPEC, covers_all: bool = False, **values: str) -> dict[int, int]:
    found = Found((), (), "data", names, covers_all=covers_all)
    return dict(class_map(found, Asked(values, spec), Path()).table)


@given(
    own=st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=4),
    classes=st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=4, unique=True),
)
def test_names_go_to_the_class_of_exactly_their_name(own: list[str], classes: list[str]) -> None:
    names, spec = dict(enumerate(own, 7)), spec_of(*classes)
    unclear = [name for name in own if name not in classes and len(classes) > 1]
    if unclear:
        with pytest.raises(UsageError, match=f"the data has the class '{unclear[0]}', which could be .* or .*; write"):
            table(names, spec)
    else:
        found = table(names, spec)
        assert all(spec.classes[found[one]] == (name if name in classes else classes[0]) for one, name in names.items())


@pytest.mark.parametrize("order", list(permutations(("disc", "2", "Disc", "DISC"), 2)))
def test_one_id_cannot_become_two_things(order: tuple[str, str]) -> None:
    names = {2: "disc", 3: "box"}
    first, second = order
    for targets in (("box", "background"), ("ignore", "box"), ("1", "2")):
        with pytest.raises(
            UsageError, match=f"says both {first}:{targets[0]} and {second}:{targets[1]}, of the same id 2"
        ):
            table(names, map=f"{first}:{targets[0]},{second}:{targets[1]}")
    assert table(names, map=f"{first}:2,{second}:box")[2] == 2, "the same in other words"


def test_map_and_ignore_agree() -> None:
    for covers_all in (True, False):
        with pytest.raises(UsageError, match="`map` says disc:box and `ignore` 1, which is the same id; say one"):
            table({1: "disc", 2: "box"}, covers_all=covers_all, map="disc:box", ignore="1")
    assert table({1: "disc", 2: "box"}, map="disc:ignore", ignore="1")[1] == IGNORE_ID
    with pytest.raises(UsageError, match="`map` says 1:box and `ignore` 1"):
        table({}, covers_all=True, map="1:box", ignore="1")


def test_map_means_every_id_of_a_name() -> None:
    """COCO files that were joined have two categories of one name."""
    found = table({1: "blob", 2: "blob", 3: "Blob"}, map="blob:disc", rest="ignore")
    assert [found[own] for own in (1, 2, 3)] == [1, 1, IGNORE_ID]
    assert [table({1: "blob", 3: "Blob"}, map="BLOB:disc")[own] for own in (1, 3)] == [1, 1]


def test_a_target_is_named_exactly_where_two_are_alike() -> None:
    spec = spec_of("Car", "car")
    assert table({5: "van"}, spec, map="van:car")[5] == 2 and table({5: "van"}, spec, map="van:Car")[5] == 1
    for said in ({"map": "van:CAR"}, {"rest": "CAR"}, {"rest": "car", "unlabelled": "CAR"}):
        with pytest.raises(UsageError, match="'CAR', which could be Car or car; write it exactly"):
            table({5: "van"}, spec, **said)


def test_a_file_of_a_map_is_split_at_line_ends_alone(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_bytes(b"di\x0bsc: box\rbox: disc\r\n")
    found = Found((), (), "data", {1: "di\x0bsc", 2: "box"})
    assert dict(class_map(found, Asked({"map": "map.txt"}, SPEC), tmp_path).table) == {1: 2, 2: 1, -1: IGNORE_ID}
