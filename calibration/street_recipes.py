"""Recipes of the street network: options of ``edgeseg train``, without data."""

from __future__ import annotations

__all__ = ["RECIPES", "SHIPPED", "arguments_of", "epochs_of"]

_STREET: dict[str, object] = {
    "--epochs": 91,
    "--growth": "192:64,288:22,480x352:5",
    "--augment": "street",
    "--loss": "ce+0.5*dice",
    "--class-weights": "none",
    "--lr": 2e-3,
    "--encoder-rate": 0.5,
    "--weight-decay": 0.02,
    "--warm-up": 3,
    "--average-decay": 0.999,
}

RECIPES: dict[str, dict[str, object]] = {
    # What the model of edgeseg 0.1 and 0.2 was trained with, without its second stage on rendered frames.
    "0.2": {"--epochs": 40, "--crop": 288, "--augment": "basic", "--class-weights": "annealed"},
    "0.2-constant": {"--epochs": 40, "--crop": 288, "--augment": "basic", "--class-weights": "constant"},
    "street": _STREET,
    "street-context": {**_STREET, "--network-option": "context=true"},
    "street-fast": {**_STREET, "--encoder": "mobilenet_v2", "--size": "352x256", "--growth": "192:3,352x256:1"},
}
"""Name -> options. ``benchmarks/drives.py`` compares them on drives that are left out."""

SHIPPED = {"street": "street", "street-fast": "street-fast"}
"""Shipped model -> its recipe."""


def arguments_of(recipe: str, **changes: object) -> list[str]:
    """Return a recipe as arguments of ``edgeseg train``; ``changes`` replace options of it, named without dashes."""
    options = {**RECIPES[recipe], **{f"--{name}": value for name, value in changes.items()}}
    return [str(part) for pair in options.items() for part in pair]


def epochs_of(recipe: str) -> int:
    """Return the epochs of a recipe."""
    return int(str(RECIPES[recipe]["--epochs"]))
