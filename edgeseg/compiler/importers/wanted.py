"""What is to be made of a graph from elsewhere, and small things that its steps share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from edgeseg.errors import UsageError

__all__ = ["OwnerFacts", "Sigmoids", "Wanted", "hw_text", "sigmoids_of_classes"]


@dataclass(frozen=True)
class Sigmoids:
    """How the sigmoids of a graph become one class per pixel. Graphs that end in a softmax need none of this.

    Attributes:
        background: id of the class that stands where no sigmoid is above ``threshold``; None for none.
        exclusive: several sigmoids are exclusive classes, and the largest wins however low it is.
        likely_background: id of the class that is the background if there is one sigmoid less than classes.
        threshold: probability above which a sigmoid says yes.
        behind_logits: the logits are those of sigmoids that the graph does not have.
    """

    background: int | None = None
    exclusive: bool = False
    likely_background: int | None = None
    threshold: float = 0.5
    behind_logits: bool = False


def sigmoids_of_classes(classes: Sequence[str], background: str | None = None, threshold: float = 0.5) -> Sigmoids:
    """Decide how sigmoids become classes.

    Args:
        classes: names.
        background: the one that stands where no sigmoid is above the threshold, ``"none"`` for sigmoids that are
            exclusive classes, or None when it was not said.
        threshold: probability above which a sigmoid says yes.

    Raises:
        UsageError: no such class.
    """
    if background not in (None, "none", *classes):
        raise UsageError(f"the background {background!r} is no class; there are {', '.join(classes)}, or none")
    place = None if background is None or background not in classes else list(classes).index(background)
    likely = next((number for number, name in enumerate(classes) if name.lower() == "background"), None)
    return Sigmoids(place, background == "none" and place is None, likely, threshold)


@dataclass(frozen=True)
class OwnerFacts:
    """What the owner of a graph says about it. What is None is read from the graph.

    Attributes:
        class_count: how many classes, the background included. A single-channel graph has two.
        size_hw: the input size to fix, in pixels.
        layout: ``"NCHW"`` or ``"NHWC"`` of the input.
        output: name of the output, or of any tensor inside, that holds the logits.
        channel_order: ``"RGB"`` or ``"BGR"``, in which a grey network's three colours come.
        sigmoids: how sigmoids become classes.
        scores: give a second output ``scores``, 1xCxHxW float32, where probabilities are no softmax of the logits.
    """

    class_count: int
    size_hw: tuple[int, int] | None = None
    layout: str | None = None
    output: str | None = None
    channel_order: str = "RGB"
    sigmoids: Sigmoids = Sigmoids()
    scores: bool = False


@dataclass(frozen=True)
class Wanted:
    """What is to be made of a graph: what its owner said, completed by what the graph says.

    Attributes:
        input: its name; dtype and layout as the file has it.
        size_hw: to fix, in pixels.
        output: name of the output or of any tensor inside.
        channels: of the image: 3, or 1 for a grey one, made of the three colours in the order ``channel_order``.
        class_count, channel_order, sigmoids, scores: see ``OwnerFacts``.
    """

    input: str
    dtype: str
    layout: str
    size_hw: tuple[int, int]
    output: str
    class_count: int
    channels: int = 3
    channel_order: str = "RGB"
    sigmoids: Sigmoids = Sigmoids()
    scores: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict that ``from_json`` turns back into an equal object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """Build it from what ``to_json`` returned."""
        height, width = data["size_hw"]
        return cls(**{**data, "size_hw": (height, width), "sigmoids": Sigmoids(**data["sigmoids"])})


def hw_text(size_hw: tuple[int, ...]) -> str:
    """Height and width as people write a size: WIDTHxHEIGHT."""
    return f"{size_hw[1]}x{size_hw[0]}"
