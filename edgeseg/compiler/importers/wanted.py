"""What is to be made of a graph from elsewhere, and small things that its steps share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Wanted", "hw_text"]


@dataclass(frozen=True)
class Wanted:
    """What the owner of a graph said, or the graph itself.

    Attributes:
        input: its name; dtype and layout as the file has it.
        size_hw: to fix, in pixels.
        output: name of the output or of any tensor inside.
        classes: how many, the background included.
        channels: of the image: 3, or 1 for a grey one, made of the three colours in the order ``channel_order``.
        channel_order: ``"RGB"`` or ``"BGR"``.
        background: id of the class that stands where no sigmoid of the graph is above ``threshold``; None for none.
        exclusive: several sigmoids are exclusive classes, and the largest wins however low it is.
        likely_background: id of the class that is the background if there is one sigmoid less than classes.
        threshold: probability above which a sigmoid says yes.
        scores: give a second output ``scores``, 1xCxHxW float32, where probabilities are no softmax of the logits.
    """

    input: str
    dtype: str
    layout: str
    size_hw: tuple[int, int]
    output: str
    classes: int
    channels: int = 3
    channel_order: str = "RGB"
    background: int | None = None
    exclusive: bool = False
    likely_background: int | None = None
    threshold: float = 0.5
    scores: bool = False


def hw_text(size_hw: tuple[int, ...]) -> str:
    """Height and width as people write a size: WIDTHxHEIGHT."""
    return f"{size_hw[1]}x{size_hw[0]}"
