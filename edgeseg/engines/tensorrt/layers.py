"""Which layers of an engine really run in INT8: read from the engine itself, after the build."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from edgeseg.errors import EngineError

__all__ = ["LayerPrecisions", "precisions_from_inspector"]

_DTYPE = re.compile(r"\b(U?Int8|FP8|FP16|Half|BF16|BFloat16|FP32|Float|Int32|Int64|Bool)\b", re.IGNORECASE)
_WORD = {"half": "FP16", "float": "FP32", "bfloat16": "BF16", "int8": "INT8", "uint8": "UINT8"}
_CONVOLUTION = re.compile(r"conv|correlation", re.IGNORECASE)


@dataclass(frozen=True)
class LayerPrecisions:
    """How many layers of an engine read what.

    Attributes:
        layers: precision (``INT8``, ``FP16``, ``FP32``...) -> number of layers whose first input has it.
        convolutions: the same for convolutions, transposed ones included.
        reformats: layers that only change type or layout.
    """

    layers: Mapping[str, int]
    convolutions: Mapping[str, int]
    reformats: int

    @property
    def int8_share(self) -> float:
        """Share of convolutions that multiply INT8; of all layers where no convolution can be told apart."""
        counted = self.convolutions or self.layers
        return counted.get("INT8", 0) / max(sum(counted.values()), 1)

    def describe(self) -> str:
        """``convolutions: INT8 60, FP16 1; layers: ...; 3 reformats``."""
        parts = [f"{name} {_listed(counts)}" for name, counts in self._named() if counts]
        return "; ".join([*parts, f"{self.reformats} reformats"])

    def _named(self) -> Sequence[tuple[str, Mapping[str, int]]]:
        return (("convolutions:", self.convolutions), ("layers:", self.layers))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerPrecisions:
        """Inverse of ``to_json``. Raises KeyError, TypeError or ValueError for anything else."""
        layers, convolutions = (
            {str(name): int(count) for name, count in data[part].items()} for part in ("layers", "convolutions")
        )
        return cls(layers, convolutions, int(data["reformats"]))


def precisions_from_inspector(text: str) -> LayerPrecisions:
    """Count layers in the JSON of TensorRT's engine inspector (8.5 to 11; the engine needs detailed profiling).

    Raises:
        EngineError: the text has another form, or names layers without their types.
    """
    try:
        found = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"TensorRT's engine inspector answered in an unknown form: {text[:80]!r}") from error
    if not found or not all(isinstance(layer, dict) for layer in found):
        raise EngineError("TensorRT's engine inspector names layers without types; build with detailed profiling")
    layers: Counter[str] = Counter()
    convolutions: Counter[str] = Counter()
    reformats = 0
    for layer in found:
        kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
        if "reformat" in f"{kind} {layer.get('Name', '')}".lower():
            reformats += 1
            continue
        precision = _precision(layer)
        layers[precision] += 1
        if _CONVOLUTION.search(kind):
            convolutions[precision] += 1
    return LayerPrecisions(dict(layers), dict(convolutions), reformats)


def _precision(layer: Mapping[str, Any]) -> str:
    """Of the first input that says its type; a layer without inputs (a constant) counts by its output."""
    for port in [*layer.get("Inputs", []), *layer.get("Outputs", [])]:
        found = _DTYPE.search(str(port.get("Format/Datatype", ""))) if isinstance(port, dict) else None
        if found:
            word = found[1].lower()
            return _WORD.get(word, word.upper())
    return "unknown"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
