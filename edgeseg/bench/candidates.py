"""Ways to run a network here that are tried beside each other, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Generic, Mapping, Sequence, TypeVar

from edgeseg.bench.measure import Contender, Effort, Interrupted, Measurement, measured_side_by_side
from edgeseg.errors import EngineError

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.engines.golden import SelfTest
    from edgeseg.engines.tensorrt.layers import LayerPrecisions

__all__ = ["Candidate", "Tuning", "refuse_none", "timed"]

W = TypeVar("W")


@dataclass(frozen=True)
class Candidate(Generic[W]):
    """A way to run the network here, and what came of it.

    Attributes:
        way: what it is: the options of an engine.
        name: what people call it.
        measured: its latency; None when it was refused.
        self_test: on the golden frames; None when it did not come so far.
        precisions: of its layers; None when it was refused, or where no engine says them.
        refused: why it cannot be taken; empty when it can.
    """

    way: W
    name: str
    measured: Measurement | None = None
    self_test: SelfTest | None = None
    precisions: LayerPrecisions | None = None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.name,
            "refused": self.refused,
            "measured": None if self.measured is None else self.measured.to_json(),
            "self_test": None if self.self_test is None else self.self_test.to_json(),
            "precisions": None if self.precisions is None else self.precisions.to_json(),
        }


@dataclass(frozen=True)
class Tuning(Generic[W]):
    """What was tried.

    Attributes:
        candidates: all of them, at least one of them measured.
        rivals: those that the verdict compares the best one with.
        remark: what the verdict ends with.
        is_interrupted: whether somebody interrupted the timing. What was measured by then is here.
    """

    candidates: Sequence[Candidate[W]]
    rivals: Sequence[Candidate[W]]
    remark: str = ""
    is_interrupted: bool = False

    @property
    def best(self) -> Candidate[W]:
        """Return the candidate with the lowest median ms/frame among those that passed."""
        return min((one for one in self.candidates if one.measured), key=_median_ms)

    def verdict(self) -> str:
        """Say in one line which is taken, and how it compares with its rivals."""
        best = self.best
        taken = "was fastest when it was interrupted, and nothing is kept" if self.is_interrupted else "is taken"
        said = f"{best.name} {taken}: {_median_ms(best):.2f} ms/frame"
        for rival in self.rivals:
            if rival is not best and rival.measured is not None and best.measured is not None:
                said += f"; beside {rival.name}: {best.measured.beside(rival.measured)}"
        if best.measured is not None and best.measured.unstable:
            said += f"; its speed drifted by {100 * best.measured.drift:+.0f} % meanwhile, so measure again"
        return said + self.remark


def timed(
    found: list[Candidate[W]],
    contenders: Mapping[int, Contender],
    frames: Sequence[np.ndarray],
    effort: Effort,
    *,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
    on_result: Callable[[str], None] = lambda line: None,
) -> bool:
    """Time candidates side by side, and put what came of it into their list.

    Args:
        found: the candidates. Those that fail meanwhile are refused.
        contenders: by the index of their candidate; their names are those of the candidates.
        frames: HxWx3 uint8 BGR camera frames.
        effort: how long.
        report: counts inside the timing.
        on_result: takes a line for people about each candidate that is out.

    Returns:
        Whether it was interrupted once something was measured.

    Raises:
        EngineError: all of them failed.
    """
    failed: list[str] = []
    is_interrupted = False
    try:
        measured = measured_side_by_side(list(contenders.values()), frames, effort, report=report, failed=failed.append)
    except Interrupted as stopped:
        measured, is_interrupted = stopped.found, True
    times_of = {times.name: times for times in measured}
    for index in contenders:
        name = found[index].name
        why = next((line for line in failed if line.startswith(f"{name} failed")), "it was interrupted")
        if name in times_of:
            found[index] = replace(found[index], measured=times_of[name])
        else:
            found[index] = replace(found[index], refused=why)
    for line in failed:
        on_result(line)
    return is_interrupted


def refuse_none(candidates: Sequence[Candidate[Any]]) -> None:
    """Raise EngineError when all of them were refused, for the first one's reason."""
    if all(one.refused for one in candidates):
        first = candidates[0].refused if candidates else "there is none"
        raise EngineError(f"no candidate can be taken; the first: {first}")


def _median_ms(candidate: Candidate[Any]) -> float:
    return float("inf") if candidate.measured is None else candidate.measured.frame.p50_ms
