"""Charts as SVG.

They place things across in percent and down in pixels, so that their text keeps its size on a phone.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from edgeseg.compiler.report.template import Markup, joined, markup

__all__ = ["Bar", "Dot", "Level", "bar_chart", "scatter_chart"]


class Bar(NamedTuple):
    """A bar: its label, its length in the chart's unit, what is printed behind it, and whether it is set off."""

    label: str
    value: float
    text: str
    is_marked: bool = False


_PITCH = 38
"""Pixels from bar to bar."""


def bar_chart(what: str, bars: Sequence[Bar], longest: float) -> Markup:
    """Horizontal bars under their labels; ``longest`` is the value that fills the width, 0 where all are 0."""
    spoken = f"{what}: " + "; ".join(f"{bar.label} {bar.text}" for bar in bars)
    return markup(
        '<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">{}</svg>',
        spoken, len(bars) * _PITCH, joined(_bar(bar, index * _PITCH, longest) for index, bar in enumerate(bars)),
    )  # fmt: skip


def _bar(bar: Bar, top: int, longest: float) -> Markup:
    length = 76 * min(max(bar.value / (longest or 1.0), 0.004), 1)
    return markup(
        '<text x="0" y="{}">{}</text><rect class="{}" x="0" y="{}" width="{:.2f}%" height="12" rx="2"/>'
        '<text x="{:.2f}%" dx="6" y="{}">{}</text>',
        top + 13, bar.label, "marked" if bar.is_marked else "bar", top + 18, length, length, top + 29, bar.text,
    )  # fmt: skip


class Dot(NamedTuple):
    """A point of a scatter chart. ``kind``, its shape, is ``"chosen"``, ``"front"``, ``"passes"`` or ``"refused"``."""

    x: float
    y: float
    label: str
    kind: str
    is_on_front: bool


class Level(NamedTuple):
    """A horizontal line and its name."""

    y: float
    label: str


_SHAPES = {
    "chosen": '<circle r="8" class="ring"/><circle r="4.5" class="fill"/>',
    "front": '<circle r="4.5" class="fill"/>',
    "passes": '<circle r="4.5" class="open"/>',
    "refused": '<path d="M-5-5L5 5M-5 5L5-5" class="cross"/>',
}
_MEANINGS = {
    "chosen": "chosen",
    "front": "on the Pareto front",
    "passes": "passes the gate",
    "refused": "refused by the gate",
}
_HEIGHT, _LEFT, _ACROSS, _TOP, _DOWN = 320, 13.0, 82.0, 24.0, 240.0
"""The plot's corner and size: percent across, pixels down."""
_PHONE = 3.5
"""Pixels of one percent on a narrow phone."""


def scatter_chart(what: str, dots: Sequence[Dot], levels: Sequence[Level], x_label: str, y_label: str) -> Markup:
    """Points over two axes with a line along the Pareto front. The table beside it says the same in numbers."""
    x_range = _padded([dot.x for dot in dots])
    y_range = _padded([*(dot.y for dot in dots), *(level.y for level in levels)])
    at = [(_across(dot.x, x_range), _down(dot.y, y_range)) for dot in dots]
    heights = [_down(level.y, y_range) for level in levels]
    front = sorted(place for place, dot in zip(at, dots) if dot.is_on_front)
    drawn = [
        *(_x_tick(value, x_range) for value in _ticks(*x_range)),
        *(_y_tick(value, y_range) for value in _ticks(*y_range)),
        *(_line(_LEFT, y, _LEFT + _ACROSS, y, "level") for y in heights),
        *(_line(*one, *other, "front") for one, other in zip(front, front[1:])),
        *(_dot(dot, *place) for dot, place in zip(dots, at)),
        _placed([*map(_level_label, levels, heights), *(_dot_label(dot, *place) for dot, place in zip(dots, at))], at),
        markup('<text x="{}%" y="{}" text-anchor="middle">{}</text>', _LEFT + _ACROSS / 2, _HEIGHT - 6, x_label),
        markup('<text x="0" y="12">{}</text>', y_label),
    ]
    kinds = [kind for kind in _SHAPES if any(dot.kind == kind for dot in dots)]
    return markup(
        '<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">{}</svg><ul class="legend">{}</ul>',
        f"{what}: {y_label} over {x_label}; the table has the numbers", _HEIGHT, joined(drawn),
        joined(markup("<li>{} {}</li>", _icon(kind), _MEANINGS[kind]) for kind in kinds),
    )  # fmt: skip


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), 1e-6 * max(abs(low), abs(high))) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round values between two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= max(factor for factor in (1, 2, 5) if step * factor <= (high - low) / 3)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _across(x: float, x_range: tuple[float, float]) -> float:
    return _LEFT + _ACROSS * (x - x_range[0]) / (x_range[1] - x_range[0])


def _down(y: float, y_range: tuple[float, float]) -> float:
    return _TOP + _DOWN * (y_range[1] - y) / (y_range[1] - y_range[0])


def _x_tick(value: float, x_range: tuple[float, float]) -> Markup:
    x, foot = _across(value, x_range), _TOP + _DOWN
    text = markup('<text x="{:.2f}%" y="{}" text-anchor="middle">{}</text>', x, foot + 18, _round(value, x_range))
    return joined([_line(x, _TOP, x, foot, "grid"), text])


def _y_tick(value: float, y_range: tuple[float, float]) -> Markup:
    y = _down(value, y_range)
    text = markup('<text x="{}%" y="{:.1f}" text-anchor="end">{}</text>', _LEFT - 1.5, y + 4, _round(value, y_range))
    return joined([_line(_LEFT, y, _LEFT + _ACROSS, y, "grid"), text])


def _round(value: float, limits: tuple[float, float]) -> str:
    return f"{value:.{max(0, 1 - math.floor(math.log10(limits[1] - limits[0])))}f}"


def _line(x: float, y: float, to_x: float, to_y: float, style: str) -> Markup:
    return markup('<line x1="{:.2f}%" y1="{:.1f}" x2="{:.2f}%" y2="{:.1f}" class="{}"/>', x, y, to_x, to_y, style)


def _dot(dot: Dot, x: float, y: float) -> Markup:
    return markup(
        '<svg x="{:.2f}%" y="{:.1f}" overflow="visible"><title>{}, {}</title>{}</svg>',
        x, y, dot.label, _MEANINGS[dot.kind], Markup(_SHAPES[dot.kind]),
    )  # fmt: skip


def _icon(kind: str) -> Markup:
    return markup('<svg class="icon" viewBox="-10 -10 20 20" aria-hidden="true">{}</svg>', Markup(_SHAPES[kind]))


class _Label(NamedTuple):
    """A text and where it may stand: (percent across, pixels down, ``text-anchor``), the best place first."""

    text: str
    places: Sequence[tuple[float, float, str]]


def _level_label(level: Level, y: float) -> _Label:
    across = ((_LEFT + _ACROSS, "end"), (_LEFT, "start"), (_LEFT + _ACROSS / 2, "middle"))
    return _Label(level.label, [(x, y + shift, anchor) for x, anchor in across for shift in (-5, 15)])


def _dot_label(dot: Dot, x: float, y: float) -> _Label:
    return _Label(dot.label, [(x, y + shift, "middle") for shift in (-13, 21)])


def _placed(labels: Sequence[_Label], at: Sequence[tuple[float, float]]) -> Markup:
    """Labels where they cover no point and no other label on a phone; one without such a place is left out."""
    taken = [(_PHONE * x - 8, y - 8, _PHONE * x + 8, y + 8) for x, y in at]
    drawn = []
    for label in labels:
        for x, y, anchor in label.places:
            width = 6.6 * len(label.text)
            start = _PHONE * x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
            box = (start - 3, y - 11, start + width + 3, y + 2)
            if y < _TOP + _DOWN and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                drawn.append(
                    markup('<text x="{:.2f}%" y="{:.1f}" text-anchor="{}">{}</text>', x, y, anchor, label.text)
                )
                break
    return joined(drawn)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
