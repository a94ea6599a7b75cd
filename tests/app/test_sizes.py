"""A size that people write is one or one line, whatever the letters are."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from edgeseg.app.data import size_hw_from
from edgeseg.errors import UsageError

SIDES = st.integers(1, 99999)


@given(width=SIDES, height=SIDES, between=st.sampled_from("xX"))
def test_a_size_is_width_before_height(width: int, height: int, between: str) -> None:
    assert size_hw_from(f"{width}{between}{height}") == (height, width)


@given(text=st.text("0123456789xX ²٣-+.e_", max_size=12))
@example("²x3")
@example("9" * 5000 + "x1")
@example("0x720")
@example("720x0")
def test_anything_else_is_one_line(text: str) -> None:
    try:
        height, width = size_hw_from(text)
    except UsageError as error:
        assert "a size is WIDTHxHEIGHT such as 480x360" in str(error) and len(str(error)) < 200
    else:
        assert text.isascii() and 0 < height < 100_000 and 0 < width < 100_000
