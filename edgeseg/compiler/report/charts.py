"""What the report is drawn with: text that is escaped, tables, charts and pictures. No script, nothing from elsewhere.

Charts place things across in percent and down in pixels, so that their text keeps its size on a phone.
"""

from __future__ import annotations

import base64
import html
import math
from collections import Counter
from typing import Collection, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from edgeseg.bundle import Golden
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = [
    "PICTURE_BYTES",
    "Bar",
    "Dot",
    "Level",
    "Markup",
    "bar_chart",
    "difference_legend",
    "golden_pictures",
    "html_page",
    "joined",
    "markup",
    "scatter_chart",
    "swatch",
    "table",
]

PICTURE_BYTES = 350_000
"""All pictures of a page together, as they stand in it."""
_PICTURE_STEPS = ((4, 480, 80), (4, 480, 60), (4, 360, 60), (4, 240, 60), (2, 240, 60), (1, 240, 50), (1, 120, 50))
"""(frames, most pixels across, JPEG quality), tried in this order until the pictures are small enough."""
_FP32_RIGHT, _INT8_RIGHT, _UNKNOWN = (0, 145, 255), (255, 190, 60), (255, 255, 255)
"""BGR on a dimmed frame; orange, blue and white are told apart by the colour-blind too."""


class Markup(str):
    """HTML that is escaped already; every other ``str`` is text."""


def markup(template: str, *parts: object) -> Markup:
    """A template whose ``{}`` are filled with parts; all but Markup and numbers is escaped."""
    return Markup(
        template.format(*(part if isinstance(part, (Markup, int, float)) else html.escape(str(part)) for part in parts))
    )


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces of HTML one after the other."""
    return Markup("".join(parts))


def html_page(title: str, head: Markup, links: Markup, body: Markup) -> Markup:
    """A whole page with its style in it; browsers are told to load nothing."""
    return markup(_PAGE, title, Markup(_STYLE), title, head, links, body)


def swatch(colour: Sequence[int], name: str) -> Markup:
    """A class name with its RGB colour before it."""
    return markup('<i class="swatch" style="background:#{}"></i>{}', Markup(bytes(colour).hex()), name)


def table(
    caption: str, columns: Sequence[object], rows: Iterable[Sequence[object]], *, text: Collection[int] = ()
) -> Markup:
    """A table that scrolls sideways where it must.

    Args:
        caption: what it shows.
        columns: headings.
        rows: cells; the first is the heading of its row.
        text: columns of words, which start at the left; numbers end at the right.
    """
    body = joined(markup("<tr>{}</tr>", joined(_cell(i, cell, text) for i, cell in enumerate(row))) for row in rows)
    head = joined(
        markup('<th scope="col"{}>{}</th>', _words(i == 0 or i in text), column) for i, column in enumerate(columns)
    )
    return markup(
        '<div class="wide" role="region" aria-label="{}" tabindex="0"><table><caption><span>{}</span></caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        caption, caption, head, body,
    )  # fmt: skip


def _cell(index: int, content: object, text: Collection[int]) -> Markup:
    if index == 0:
        return markup('<th scope="row">{}</th>', content)
    return markup("<td{}>{}</td>", _words(index in text), content)


def _words(are_words: bool) -> Markup:
    return Markup(' class="words"' if are_words else "")


class Bar(NamedTuple):
    """A bar: its label, its length in the chart's unit, what is printed behind it, and whether it is set off."""

    label: str
    value: float
    text: str
    is_marked: bool = False


_PITCH = 38
"""Pixels from bar to bar."""


def bar_chart(what: str, bars: Sequence[Bar], longest: float) -> Markup:
    """Horizontal bars under their labels; ``longest`` is the value that fills the width."""
    spoken = f"{what}: " + "; ".join(f"{bar.label} {bar.text}" for bar in bars)
    return markup(
        '<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">{}</svg>',
        spoken, len(bars) * _PITCH, joined(_bar(bar, index * _PITCH, longest) for index, bar in enumerate(bars)),
    )  # fmt: skip


def _bar(bar: Bar, top: int, longest: float) -> Markup:
    length = 76 * min(max(bar.value / longest, 0.004), 1)
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


def golden_pictures(golden: Golden, maps: Mapping[str, Sequence[np.ndarray]], spec: ModelSpec) -> Markup:
    """Golden frames beside their class maps and the places where graphs differ from FP32, within ``PICTURE_BYTES``.

    Args:
        golden: frames, labels and FP32's class maps at network size.
        maps: HxW uint8 class maps of every frame, by the name of the graph.
        spec: class names, palette and the ids that are no label.
    """
    for frames, width, quality in _PICTURE_STEPS:
        chosen = np.unique(np.linspace(0, len(golden.frames) - 1, min(frames, len(golden.frames))).astype(int))
        drawn = joined(_frame(int(index), golden, maps, spec, width, quality) for index in chosen)
        if len(drawn) <= PICTURE_BYTES:
            break
    return drawn


def _frame(
    index: int,
    golden: Golden,
    maps: Mapping[str, Sequence[np.ndarray]],
    spec: ModelSpec,
    width: int,
    quality: int,
) -> Markup:
    import cv2

    frame, expected, label = golden.frames[index], golden.classes[index], golden.labels[index]
    height, across = expected.shape
    size = (min(width, across), max(1, round(height * min(width, across) / across)))
    name, reused = f"golden frame {index + 1}", markup('<use href="#frame{}"', index)
    image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    photo = markup(
        '<image id="frame{}" width="{}" height="{}" href="{}"/>', index, *size, _data_uri(".jpg", image, quality)
    )

    def overlaid(classes: np.ndarray, who: str) -> Markup:
        colours = _coloured(cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT), spec)
        over = markup(
            '{}/><image width="{}" height="{}" opacity=".6" href="{}"/>', reused, *size, _data_uri(".png", colours)
        )
        return _figure(over, size, f"{name} with the classes of {who}", who)

    pictures = [_figure(photo, size, name, "frame"), overlaid(expected, "fp32")]
    for who, found in maps.items():
        spots = _difference(found[index], expected, label, spec, size)
        over = markup(
            '<rect width="{}" height="{}"/>{} opacity=".4"/><image width="{}" height="{}" href="{}"/>',
            *size, reused, *size, _data_uri(".png", spots),
        )  # fmt: skip
        said = _difference_in_words(found[index], expected, label, spec)
        pictures += [
            overlaid(found[index], who),
            _figure(over, size, f"{name}, where {who} and fp32 differ: {said}", f"{who} against fp32: {said}"),
        ]
    return markup('<h3>{}</h3><div class="pictures">{}</div>', name.capitalize(), joined(pictures))


def _figure(picture: Markup, size: tuple[int, int], spoken: str, caption: str) -> Markup:
    return markup(
        '<figure><svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg><figcaption>{}</figcaption></figure>',
        spoken, *size, picture, caption,
    )  # fmt: skip


def _coloured(classes: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """HxW ids -> HxWx3 uint8 BGR; ids that are no class are black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(spec.palette)] = np.asarray(spec.palette, np.uint8)[:, ::-1]
    return np.asarray(colours[classes])


def _difference(
    found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec, size: tuple[int, int]
) -> np.ndarray:
    """A BGRA picture that is transparent but where the maps differ; single pixels are thickened so as to be seen."""
    import cv2

    height, width = size[1], size[0]
    picture = np.zeros((height, width, 4), np.uint8)
    for colour, where in zip((_UNKNOWN, _INT8_RIGHT, _FP32_RIGHT), _who_is_right(found, expected, label, spec)):
        shown = cv2.resize(255 * where.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        picture[cv2.dilate(shown, np.ones((3, 3), np.uint8)) > 0] = (*colour, 255)
    return picture


def difference_legend() -> Markup:
    """What the colours of differing pixels mean."""
    meanings = ((_FP32_RIGHT, "FP32 is right"), (_INT8_RIGHT, "INT8 is right"), (_UNKNOWN, "neither, or not labelled"))
    return joined(markup("<li>{}</li>", swatch(colour[::-1], what)) for colour, what in meanings)


def _who_is_right(
    found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where two maps differ: neither is known to be right, the graph is, FP32 is."""
    differ = found != expected
    labelled = (label != spec.ignore_id) & (label != IGNORE_ID)
    ours, theirs = differ & labelled & (found == label), differ & labelled & (expected == label)
    return differ & ~ours & ~theirs, ours, theirs


def _difference_in_words(found: np.ndarray, expected: np.ndarray, label: np.ndarray, spec: ModelSpec) -> str:
    neither, ours, theirs = (int(where.sum()) for where in _who_is_right(found, expected, label, spec))
    pixels = neither + ours + theirs
    if not pixels:
        return "no pixel differs"
    changes = Counter(zip(expected[found != expected].tolist(), found[found != expected].tolist()))
    (before, after), _ = max(changes.items(), key=lambda item: (item[1], item[0]))
    said = f"{100 * pixels / found.size:.2f} % of pixels differ, mostly {_name(before, spec)} → {_name(after, spec)}"
    if ((label != spec.ignore_id) & (label != IGNORE_ID)).any():
        said += f"; FP32 is right in {theirs}, INT8 in {ours}, neither in {neither}"
    return said


def _name(index: int, spec: ModelSpec) -> str:
    return spec.classes[index] if index < len(spec.classes) else f"id {index}"


def _data_uri(suffix: str, image: np.ndarray, quality: int = 0) -> Markup:
    import cv2

    how = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    encoded = base64.b64encode(cv2.imencode(suffix, image, how)[1].tobytes()).decode()
    return Markup(f"data:image/{kind};base64,{encoded}")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{}: edgeseg report</title>
<style>{}</style>
</head>
<body>
<header><h1>{}</h1>{}</header>
<nav aria-label="Sections">{}</nav>
<main>{}</main>
</body>
</html>
"""
_STYLE = """
:root {
  --page: #fbfbfa; --text: #1c2126; --quiet: #5a636d; --line: #d9dde1; --grid: #e6e9ec;
  --accent: #2458b8; --marked: #9a5200; --bad: #b3190f; --loss: #8f4a00; --gain: #17693a; --warn: #fff3d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --text: #e4e7ea; --quiet: #a3abb3; --line: #3a4148; --grid: #2a3036;
    --accent: #7db0ff; --marked: #ffb45c; --bad: #ff8f85; --loss: #ffb868; --gain: #7fd89c; --warn: #3a2f14;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { margin: .5rem 0; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.verdict { font-size: 1.15rem; max-width: 60rem; }
.stamp {
  padding: .05rem .5rem; border: 3px solid; border-radius: .3rem; color: var(--bad); letter-spacing: .08em;
  white-space: nowrap;
}
.warning { margin: .5rem 0; padding: .4rem .75rem; border-left: 4px solid var(--loss); background: var(--warn); }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); padding-bottom: .4rem; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row] { position: sticky; left: 0; background: var(--page); text-align: left; font-weight: 500; }
thead th { vertical-align: bottom; white-space: normal; min-width: 3.5rem; font-weight: 600; }
.words { text-align: left; }
.gain { color: var(--gain); } .loss { color: var(--loss); } .same, .quiet { color: var(--quiet); }
.bad { color: var(--bad); font-weight: 700; }
.change { display: inline-block; min-width: 3.4em; }
.swatch {
  display: inline-block; width: .8em; height: .8em; margin-right: .45em; border: 1px solid var(--quiet);
  border-radius: 2px; print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; padding: 0; list-style: none; }
.icon { width: 1.1em; height: 1.1em; vertical-align: -.15em; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(9.5rem, 23.5%), 1fr)); gap: .75rem; }
figure { margin: 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { padding: .2rem 0; color: var(--quiet); font-size: .875rem; line-height: 1.35; }
dl { margin: .75rem 0; max-width: 60rem; }
dl div { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: 1rem; padding: .2rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; }
@media (max-width: 40rem) { dl div { display: block; } }
dd, li { overflow-wrap: anywhere; }
code { font: .85rem ui-monospace, monospace; }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
details li { margin: .5rem 0; }
.chart { display: block; max-width: 48rem; overflow: visible; font-size: 12px; }
.chart text { fill: var(--text); stroke: var(--page); stroke-width: 3px; paint-order: stroke; }
.bar { fill: var(--accent); } .marked { fill: var(--marked); }
.fill { fill: var(--accent); } .open, .ring, .cross { fill: var(--page); stroke: var(--accent); stroke-width: 2; }
.cross { stroke: var(--bad); }
line { stroke: var(--grid); } line.front { stroke: var(--accent); stroke-width: 1.5; }
line.level { stroke: var(--quiet); stroke-dasharray: 5 4; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; background: none; }
  nav, details.screen { display: none; }
  .wide { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  th[scope=row] { position: static; background: none; }
  tr, .warning, .chart { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  rect, line, circle, path, .warning { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
