from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeseg.runtime.sources.media_time import MediaTime

STEPS = st.lists(st.integers(1, 10**10), min_size=1, max_size=40)


@given(st.integers(-(10**12), 10**15), STEPS)
def test_times_that_increase_are_kept_from_the_first_on(first: int, steps: list[int]) -> None:
    told = [first + sum(steps[:number]) for number in range(len(steps) + 1)]
    clock = MediaTime()
    assert [clock.at(time, 40_000_000) for time in told] == [time - first for time in told]


@given(st.lists(st.tuples(st.integers(-(10**12), 10**15), st.integers(0, 10**9)), max_size=40))
def test_times_never_go_back(told: list[tuple[int, int]]) -> None:
    clock = MediaTime()
    times = [clock.at(*one) for one in told]
    assert times[:1] in ([], [0])
    assert all(later > earlier for earlier, later in zip(times, times[1:]))  # type: ignore[operator]


@given(STEPS.filter(lambda steps: sum(steps) > 10**9), st.integers(2, 4))
def test_joined_recordings_keep_their_distances(steps: list[int], parts: int) -> None:
    told = [sum(steps[:number]) for number in range(len(steps) + 1)]
    clock = MediaTime()
    times = [clock.at(time, 40_000_000) for _ in range(parts) for time in told]
    distances = [
        later - earlier  # type: ignore[operator]
        for earlier, later in zip(times, times[1:])
    ]
    assert distances == [*steps, *(parts - 1) * [40_000_000, *steps]]


def test_a_picture_without_a_time_follows_the_one_before() -> None:
    clock = MediaTime()
    assert [clock.at(told, 0) for told in (None, None, 7, None, None, 100_000_007)] == [
        *(None, None, 0, 40_000_000, 80_000_000, 100_000_000)
    ]
    assert clock.at(None, 20_000_000) == 120_000_000
