"""The table of releases: complete, in order, and without a contradiction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeseg.device.jetpack import (
    OLDEST_TENSORRT,
    RELEASES,
    SERIES,
    SOCS,
    Release,
    image_of_l4t,
    jetpack_version,
    release,
    release_of_l4t,
    series_of_l4t,
    version_tuple,
)

IDS = [one.jetpack for one in RELEASES]


@pytest.mark.parametrize("one", RELEASES, ids=IDS)
def test_a_row_is_whole(one: Release) -> None:
    assert release(one.jetpack) is one and one.series is SERIES[one.jetpack[0]]
    assert set(one.socs) <= set(SOCS) and one.socs
    for version in (one.cuda, one.tensorrt, *one.l4t):
        assert len(version_tuple(version)) >= 2
    for l4t in one.l4t:
        assert release_of_l4t(l4t) is one and series_of_l4t(l4t) is one.series
        assert jetpack_version(l4t) == one.jetpack and jetpack_version(l4t, "9.9+b1") == one.jetpack
        assert image_of_l4t(l4t) == one.image
    assert one.usable == (version_tuple(one.tensorrt) >= OLDEST_TENSORRT)


def test_rows_are_in_order_and_no_l4t_is_in_two() -> None:
    l4t = [version_tuple(version) for one in RELEASES for version in one.l4t]
    assert l4t == sorted(set(l4t))
    assert len(IDS) == len(set(IDS)) and sorted(IDS, key=lambda name: (name.split()[0], " " not in name)) == IDS
    assert [version_tuple(one.tensorrt) for one in RELEASES] == sorted(version_tuple(one.tensorrt) for one in RELEASES)


def test_the_first_tensorrt_that_can_be_used_is_8_5() -> None:
    too_old, first = release("5.0.2"), release("5.1")
    assert too_old is not None and too_old.tensorrt == "8.4.1" and not too_old.usable
    assert first is not None and first.tensorrt == "8.5.2" and first.usable
    assert replace(first, tensorrt="8.5").usable


def test_series_have_what_their_ubuntu_has() -> None:
    ubuntu = {"18.04": (27, "3.6"), "20.04": (31, "3.8"), "22.04": (35, "3.10"), "24.04": (39, "3.12")}
    for series in SERIES.values():
        assert (series.glibc, series.python) == ubuntu[series.ubuntu]
    assert [series.jetpack for series in SERIES.values() if series.sbsa] == ["7"]
    assert series_of_l4t("38.1") is series_of_l4t("39.1") is SERIES["7"]


def test_int8_begins_with_the_tensor_cores_of_xavier() -> None:
    for soc in SOCS.values():
        assert soc.int8_kernels == (float(soc.compute_capability) >= 7), soc.name


def test_what_is_between_two_rows_belongs_to_no_release() -> None:
    assert release_of_l4t("36.4.5") is None and release_of_l4t("") is None and release_of_l4t("x") is None
    assert series_of_l4t("37.1") is None and series_of_l4t("") is None
    later = series_of_l4t("39.9")
    assert later is not None and later.jetpack == "7"


@pytest.mark.parametrize(
    ("l4t", "image"),
    [("35.2", "r35.4.1"), ("36.3", "r36.3.0"), ("36.4", "r36.4.0"), ("36.9.1", "r36.4.0"), ("39.2.0", ""), ("", "")],
)
def test_images_fit_ranges_of_releases(l4t: str, image: str) -> None:
    assert image_of_l4t(l4t) == image


def test_where_tensorrt_11_is_supported() -> None:
    newest, before = release("7.2.2"), release("7.2.1")
    assert newest is not None and before is not None
    for version, good in (
        *(((10, 16, 2), True), ((11,), False), ((11, 4, 0, 106), False)),
        *(((11, 4, 1), True), ((11, 4, 1, 5), True), ((11, 5), True)),
    ):
        assert newest.runs_tensorrt(version) == good
        assert before.runs_tensorrt(version) == (version < (11,))


@pytest.mark.parametrize(
    ("l4t", "package", "jetpack"),
    [
        ("36.9.0", "6.3.1+b2", "6.3.1"),
        ("36.9.0", "5.1.2-b104", "unknown (L4T 36.9.0)"),
        ("36.9.0", "7.2", "unknown (L4T 36.9.0)"),
        ("39.9", "7.4-b1", "7.4"),
        ("40.1.0", "8.0", "8.0"),
        ("40.1.0", "6.2.1", "unknown (L4T 40.1.0)"),
        ("36.4.3", "5.1.2", "6.2"),
        ("36.9.0", "left", "unknown (L4T 36.9.0)"),
    ],
)
def test_a_package_settles_only_what_it_can_be(l4t: str, package: str, jetpack: str) -> None:
    assert jetpack_version(l4t, package) == jetpack
