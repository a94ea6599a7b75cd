"""The command lines of the edgeseg on a board. Old ones know these options, too."""

from __future__ import annotations

__all__ = ["bench_words", "verify_words", "version_words"]


def version_words() -> list[str]:
    """Return what follows the program, to see whether there is one."""
    return ["--version"]


def verify_words(model: str, engine: str, graph: str | None, keys: str) -> list[str]:
    """Return what follows the program, to check golden frames.

    Args:
        model: path there.
        engine: that is checked.
        graph: that is checked; None is what the engine takes.
        keys: file of public keys there; empty demands no signature.
    """
    of_graph = ["--graph", graph] if graph else []
    return ["verify", model, "--json", "--engine", engine, *of_graph, *_demand(keys)]


def bench_words(model: str, engine: str, seconds: float, keys: str) -> list[str]:
    """Return what follows the program, to measure times; ``seconds`` for each graph, after a third of it to warm up."""
    spans = ["--seconds", f"{seconds:g}", "--warmup", f"{seconds / 3:g}"]
    return ["bench", model, "--json", "--no-torch", "--engine", engine, *spans, *_demand(keys)]


def _demand(keys: str) -> list[str]:
    return ["--require-signature", keys] if keys else []
