"""What was measured, as tables: times, ratios with their intervals, agreement, and why a contender did not run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np
from contenders import EAGER, Entrant

from edgeseg.bench.compare import paired_ratio

MODES = {"graph": "the graph alone", "frame": "end to end from a BGR frame"}
"""What is timed -> in words."""


@dataclass
class Row:
    """A contender on a network.

    Attributes:
        entrant: who.
        description: what it says of itself.
        laps: by mode, the milliseconds of every call, turn by turn.
        agreement: share of pixels whose class is that of our FP32 graph; None while nobody knows.
        reason: why it does not run; empty where it does.
    """

    entrant: Entrant
    description: str = ""
    laps: dict[str, list[list[float]]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    agreement: float | None = None
    reason: str = ""

    def turns(self, mode: str) -> list[float]:
        """Return the median of each turn in milliseconds."""
        return [float(np.median(laps)) for laps in self.laps[mode]]

    def percentile(self, mode: str, percent: float) -> float:
        """Return a percentile of all calls in milliseconds."""
        return float(np.percentile(np.concatenate(self.laps[mode]), percent))

    @property
    def ran(self) -> bool:
        """Tell whether every turn was taken."""
        return not self.reason and bool(self.laps["frame"])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.entrant.name,
            "ours": self.entrant.ours,
            "takes": self.entrant.takes,
            "description": self.description,
            "laps_ms": self.laps,
            "agreement": self.agreement,
            "reason": self.reason,
        }


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of pixels with the same class. Class maps of another shape agree nowhere."""
    return float((found == expected).mean()) if found.shape == expected.shape else 0.0


def fastest(rows: Sequence[Row], mode: str, *, ours: bool) -> Row | None:
    """Return the row with the least p50 of the table, of ours or of the others; None where none ran."""
    ran = [row for row in rows if row.ran and row.entrant.ours == ours]
    return min(ran, key=lambda row: row.percentile(mode, 50), default=None)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table of a network. Each mode is compared with the fastest of ours in it."""
    head = ["contender", "graph", "its own words"]
    for what in ("graph alone", "end to end"):
        head += [f"{what}: p50 ms", "p90", "ours is faster by"]
    lines = [_line([*head, "pixels as our FP32"]), _line(["---"] * (len(head) + 1))]
    best = {mode: fastest(rows, mode, ours=True) for mode in MODES}
    for row in rows:
        name = f"**{row.entrant.name}**" if row.entrant.ours else row.entrant.name
        if not row.ran:
            lines.append(_line([name, row.entrant.takes, f"cannot run: {row.reason}", *[""] * 7]))
            continue
        cells = [name, row.entrant.takes, row.description]
        for mode, ours in best.items():
            cells += [f"{row.percentile(mode, percent):.1f}" for percent in (50, 90)]
            cells.append("" if ours is None else "1" if ours is row else _ratio(ours, row, mode))
        cells.append("" if row.agreement is None else f"{100 * row.agreement:.2f} %")
        lines.append(_line(cells))
    return "\n".join(lines)


def verdicts(network: str, rows: Sequence[Row]) -> list[str]:
    """Say of each mode how the fastest of ours stands to the fastest of the others."""
    said = []
    for mode, words in MODES.items():
        ours, other = fastest(rows, mode, ours=True), fastest(rows, mode, ours=False)
        if ours is None or other is None:
            said.append(f"{network}, {words}: nothing to compare")
            continue
        times, low, high = paired_ratio(ours.turns(mode), other.turns(mode), block=1)
        verdict = "ours is faster" if low > 1 else "the peer is faster" if high < 1 else "no difference is seen"
        said.append(
            f"{network}, {words}: {ours.entrant.name} against the fastest peer, {other.entrant.name}: "
            f"{times:.2f}x ({low:.2f}-{high:.2f}), {verdict}"
        )
    return said


def against_eager(default: Sequence[Row], eager: Sequence[Row]) -> str:
    """Say how many times faster the default network in our fastest engine is than PyTorch eager on another network."""
    ours = fastest(default, "frame", ours=True)
    theirs = next((row for row in eager if row.entrant.name == EAGER and row.ran), None)
    if ours is None or theirs is None:
        return "PyTorch eager or edgeseg did not run: nothing to compare"
    ratios = np.divide(theirs.turns("frame"), ours.turns("frame"))
    times, low, high = paired_ratio(ours.turns("frame"), theirs.turns("frame"), block=1)
    return (
        f"our default network by {ours.entrant.name} against {EAGER} of smp.Unet('mobilenet_v2'), end to end: "
        f"{times:.1f}x ({low:.1f}-{high:.1f}), least of {len(ratios)} paired ratios {ratios.min():.1f}x"
    )


def _ratio(ours: Row, other: Row, mode: str) -> str:
    times, low, high = paired_ratio(ours.turns(mode), other.turns(mode), block=1)
    return f"{times:.2f}x ({low:.2f}-{high:.2f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
