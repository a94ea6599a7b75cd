"""What the name of a picture tells: the drive that it is of, a number that counts, a time."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

__all__ = ["ToldByName", "told_by"]

_BY_TOOLS = re.compile(
    r"_(?:jpe?g|png|bmp|tiff?|webp|heic)\.rf\.\w+$|[_\- ](?:(?:out[_\- ])?of[_\- ]\d+|\d+x\d+|copy)(?=$|[_\-. ])", re.I
)
"""What tools put into a name: Roboflow a hash; others the number of all pictures, or their size."""
_CALENDAR = re.compile(
    r"(?<!\d)(20\d\d[-_.]?\d\d[-_.]?\d\d)(?:[-_T. ]| at )?(\d\d)[-_:.]?(\d\d)[-_:.]?(\d\d)"
    r"(?:(\d{6}|\d{3})|[-_.,](\d{3})$)?(?!\d)"
)
_UNIX = re.compile(r"(?<!\d)(?:(1\d{9})(?:[._](\d{9}|\d{6}|\d{3}))?|(1\d{12}(?:\d{3}){0,2}))(?!\d)")
_SEPARATORS = r"_\-. ()\[\]"
_PART = re.compile(f"[^{_SEPARATORS}]+")
_NUMBERED = re.compile(r"[^\W\d_]{0,10}(\d+)[^\W\d_]{0,2}")
"""Part of a name that counts, such as ``00390``, ``f01500`` or ``12a``; ``leftImg8bit`` does not."""
_NO_COUNT = re.compile(
    r"(?:v|ver|version|rev|cam|camera|view|band)\d{1,3}|mp4|m4v|h26[45]|\d{3,4}p|\d+k|\d+hz|\d+fps|\d+bit", re.I
)
"""Part with a number that does not count the pictures of a drive, where another one does."""


class ToldByName(NamedTuple):
    """What a name tells.

    Attributes:
        drive: what the names of one drive share, with the day; the whole name where nothing in it counts.
        video: the same with the time of day, where pictures are counted from that time on.
        before: what stands in front of a date or time, else ``drive``: a drive past midnight has two days.
        number: that counts the pictures of the drive, or None.
        seconds: since 1970 UTC, or None.
    """

    drive: str
    video: str
    before: str
    number: int | None = None
    seconds: float | None = None


def told_by(stem: str) -> ToldByName:
    """Read the name of a picture, without suffix.

    ``0016E5_00390`` is picture 390 of ``0016E5``; ``aachen_000001_000019_leftImg8bit`` 19 of ``aachen_000001``;
    ``frame12`` 12 of ``frame``; ``cam1_2024-03-04_10-00-30`` of ``cam1_2024-03-04`` at that time.
    """
    name = _BY_TOOLS.sub("", stem)
    for pattern, seconds_in in ((_CALENDAR, _calendar_seconds), (_UNIX, _unix_seconds)):
        clock = pattern.search(name)
        seconds = None if clock is None else seconds_in(clock)
        if clock is not None and seconds is not None:
            before = name[: clock.start()].rstrip("_-. ([")
            drive = name[: clock.end(1)] if pattern is _CALENDAR else before
            counter = _counter(name, clock.end())
            video = drive if counter is None else name[: clock.end()]
            return ToldByName(drive, video, before, None if counter is None else counter[1], seconds)
    counter = _counter(name, 0)
    drive = name if counter is None else name[: counter[0]].rstrip("_-. ([")
    return ToldByName(drive, drive, drive, None if counter is None else counter[1])


def _counter(name: str, start: int) -> tuple[int, int] | None:
    """Return where the last number that counts begins, and the number."""
    found = [(part, _NUMBERED.fullmatch(part[0])) for part in _PART.finditer(name, start)]
    numbered = [(part, match) for part, match in found if match is not None]
    counting = [one for one in numbered if not _NO_COUNT.fullmatch(one[0][0])] or ([] if start else numbered)
    if counting:
        part, match = counting[-1]
        return part.start() + (0 if part.start() else match.start(1)), int(match[1])
    last = re.search(r"\d+$", name[start:])
    return None if last is None or start else (last.start(), int(last[0]))


def _calendar_seconds(match: re.Match[str]) -> float | None:
    day = re.sub(r"\D", "", match[1])
    try:
        moment = datetime.datetime.strptime(f"{day}{match[2]}{match[3]}{match[4]}+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{match[5] or match[6] or 0}")


def _unix_seconds(match: re.Match[str]) -> float:
    whole = match[1] or match[3][:10]
    return int(whole) + float(f"0.{match[2] or (match[3] or '')[10:] or 0}")
