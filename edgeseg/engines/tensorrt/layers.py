"""Prove which layers of an engine really run in INT8: read from the engine itself, after the build.

TensorRT's engine inspector has been spelt in several ways:

- 8.5 to 10: ``"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"``; kernels that TensorRT
  generates (``LayerType`` ``kgen``, names that begin with ``__myl_``) have the bare word, ``"Float"``.
- 11: ``Datatype`` (or ``DataType``) and ``Format`` apart.
- TensorRT-RTX 1.7: ``Datatype`` and ``Format`` apart, no ``Weights``; a convolution is a ``correlation`` or ``deconv``
  whose weights are among its ``Constants``.

So names of fields are compared without case and punctuation, and what is not understood is counted as that, never as
something that is not INT8.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from edgeseg.errors import EngineError

__all__ = ["LayerPrecisions", "generated_convolutions", "layer_kinds", "precisions_from_inspector"]

_UNKNOWN = "unknown"
_PRECISIONS = {
    "float": "FP32",
    "float32": "FP32",
    "fp32": "FP32",
    "half": "FP16",
    "float16": "FP16",
    "fp16": "FP16",
    "bfloat16": "BF16",
    "bf16": "BF16",
    "float8": "FP8",
    "fp8": "FP8",
    "fp8e4m3": "FP8",
    "e4m3": "FP8",
    "e8m0": "E8M0",
    "float4": "FP4",
    "fp4": "FP4",
    "fp4e2m1": "FP4",
    "e2m1": "FP4",
    "int4": "INT4",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}
_NAMED = re.compile(r"data[\s_]*type\"?\s*[:=]\s*\"?([^,}\]\"]+)", re.IGNORECASE)
_CONVOLUTION = re.compile(r"conv(?!er)|correlation", re.IGNORECASE)
_GENERATED = re.compile(r"correlation|kgen|_myl", re.IGNORECASE)
_SYNCHRONISATION = ("signal", "wait", "signalandwait", "signalwait")


@dataclass(frozen=True)
class LayerPrecisions:
    """Counts of an engine's layers by the precision they compute in.

    Attributes:
        layers: number of layers whose first input has a precision (``INT8``, ``FP16``, ``FP32``...), by precision;
            ``unknown`` where the inspector's listing was not understood.
        convolutions: the same for what convolutions multiply, transposed ones included.
        reformats: layers that only change type or layout.
        sample: text of the first layer that was not understood; empty where all were.
    """

    layers: Mapping[str, int]
    convolutions: Mapping[str, int]
    reformats: int
    sample: str = ""

    @property
    def int8_share(self) -> float:
        """Return the share (0-1) of convolutions proven to multiply INT8; of all layers if no convolution is visible.

        What was not understood counts as not proven, so the true share is between this and ``int8_share_at_most``.
        """
        return self._share("INT8")

    @property
    def int8_share_at_most(self) -> float:
        """Return the share if all that was not understood were INT8."""
        return self._share("INT8", _UNKNOWN)

    @property
    def not_understood(self) -> int:
        """Count those that the share is taken over and that were not understood."""
        return self._counted().get(_UNKNOWN, 0)

    def describe(self) -> str:
        """Describe the counts: ``convolutions: INT8 60, FP16 1; layers: ...; 3 reformats``."""
        parts = [f"{name} {_listed(counts)}" for name, counts in self._named() if counts]
        return "; ".join([*parts, f"{self.reformats} reformats"])

    def _counted(self) -> Mapping[str, int]:
        return self.convolutions or self.layers

    def _share(self, *precisions: str) -> float:
        counted = self._counted()
        return sum(counted.get(name, 0) for name in precisions) / max(sum(counted.values()), 1)

    def _named(self) -> Sequence[tuple[str, Mapping[str, int]]]:
        return (("convolutions:", self.convolutions), ("layers:", self.layers))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of all fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerPrecisions:
        """Build the counts from what ``to_json`` of this or an older version returned.

        Raises:
            KeyError: a field is missing.
            TypeError: a field is of another kind.
            ValueError: a count is no number.
        """
        layers, convolutions = (
            {str(name): int(count) for name, count in data[part].items()} for part in ("layers", "convolutions")
        )
        return cls(layers, convolutions, int(data["reformats"]), str(data.get("sample", "")))


def precisions_from_inspector(text: str) -> LayerPrecisions:
    """Count layers in the JSON of TensorRT's engine inspector (8.5 to 11, RTX; the engine needs detailed profiling).

    A convolution counts as INT8 where both its input and its weights are.

    Raises:
        EngineError: the text names layers without their types, or none of the layers, or none of the convolutions, is
            in a form that is known here. That says nothing about their precision.
    """
    found = _listed_layers(text)
    if not any(isinstance(layer, dict) for layer in found):
        raise EngineError("TensorRT's engine inspector names layers without types; build with detailed profiling")
    layers: Counter[str] = Counter()
    convolutions: Counter[str] = Counter()
    reformats, sample = 0, ""
    for one in found:
        layer = _Layer(one)
        if layer.is_reformat:
            reformats += 1
        elif not layer.is_silent:
            precision = layer.precision
            layers[precision] += 1
            convolutions[precision] += layer.convolutions
            if precision == _UNKNOWN and (not sample or layer.convolutions):
                sample = _short(one)
    read = LayerPrecisions(dict(layers), {k: n for k, n in convolutions.items() if n}, reformats, sample)
    _check_understood(read, found)
    return read


def layer_kinds(text: str) -> dict[str, str]:
    """Return what an engine's inspector says of each layer, type and precision, by its name.

    What it says nothing of, or in a form that is not known here, is left out: this is for people.
    """
    try:
        layers = [_Layer(one) for one in _listed_layers(text)]
    except EngineError:
        return {}
    return {layer.name: layer.described for layer in layers if layer.described}


def _check_understood(read: LayerPrecisions, found: Sequence[Any]) -> None:
    for name, counts in read._named():
        if set(counts) == {_UNKNOWN}:
            raise _not_understood(f"no type in any of its {counts[_UNKNOWN]} {name[:-1]}", read.sample)
    if not read.layers and not read.reformats:
        raise _not_understood(f"no tensors in any of its {len(found)} layers", _short(found[0]))


def _not_understood(what: str, seen: str) -> EngineError:
    return EngineError(
        f"this inspector's output is not understood: {what}, seen {seen}; report this line with TensorRT's version"
    )


def _short(seen: Any) -> str:
    text = " ".join((seen if isinstance(seen, str) else json.dumps(seen)).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _listed_layers(text: str) -> list[Any]:
    """Return the layers as the inspector lists them. Raises EngineError."""
    try:
        # Not strict: TensorRT 8.6 separates what it says of a layer by control characters.
        answer = json.loads(text, strict=False)
    except ValueError as error:
        raise _not_understood("it is no JSON", repr(_short(text))) from error
    fields = _fields(answer)
    layers = answer if isinstance(answer, list) else fields.get("layers", fields.get("layerinfo"))
    if isinstance(layers, dict):
        layers = [{"Name": name, **one} if isinstance(one, dict) else name for name, one in layers.items()]
    if not isinstance(layers, list):
        raise _not_understood("it has no list of layers", repr(_short(text)))
    return layers


class _Layer:
    """One entry of the listing. Entries that are only a name have no fields, so that all about them is unknown."""

    def __init__(self, listed: Any) -> None:
        self._fields = _fields(listed)
        self.name = str(self._fields.get("name", ""))
        kinds = ("layertype", "parametertype", "type", "kind")
        self._kind = " ".join(str(self._fields[key]) for key in kinds if key in self._fields)
        self._inputs, self._outputs, self._constants = (
            _ports(self._fields.get(part)) for part in ("inputs", "outputs", "constants")
        )

    @property
    def described(self) -> str:
        """Return its type and its precision, as far as they are known."""
        return ", ".join(part for part in (self._kind, self.precision) if part and part != _UNKNOWN)

    @property
    def is_reformat(self) -> bool:
        """Tell whether it only changes type or layout; a convolution does more, whatever its ONNX node is called."""
        named = self.name.lower().startswith("reformatting copynode")
        return not self.convolutions and (named or "reformat" in self._kind.lower())

    @property
    def is_silent(self) -> bool:
        """Tell whether it has no precision: it waits for another stream, or touches no tensor."""
        silent = all(self._fields.get(part) == [] for part in ("inputs", "outputs"))
        return not self.convolutions and (silent or _plain(self._kind) in _SYNCHRONISATION)

    @property
    def convolutions(self) -> int:
        """Count the convolutions that are in it."""
        if _CONVOLUTION.search(self._kind):
            return 1
        return generated_convolutions(self.name)

    @property
    def precision(self) -> str:
        if self.convolutions:
            return _multiplied(*self._operands())
        # Of the first input that says its type; a layer without inputs (a constant) counts by its output.
        types = (_type_of(port) for port in (*self._inputs, *self._outputs))
        return next((found for found in types if found != _UNKNOWN), _UNKNOWN)

    def _operands(self) -> tuple[str, str | None]:
        """Return the types of a convolution's input and of its weights; None where no weights are listed."""
        if not self._inputs:
            return _UNKNOWN, self._stated_weights()
        stated = self._stated_weights()
        if stated is not None:
            return _type_of(self._inputs[0]), stated
        if self._constants:
            return _type_of(self._inputs[0]), _type_of(self._listed_weights())
        if not _GENERATED.search(f"{self._kind} {self.name}"):
            return _type_of(self._inputs[0]), None
        # TensorRT 10 lists the constants of what it generates among the inputs, in any order, scales and biases too.
        tensors = [port for port in self._inputs if not _is_vector(port)] or self._inputs
        return _type_of(tensors[0]), _type_of(tensors[1]) if len(tensors) > 1 else None

    def _stated_weights(self) -> str | None:
        """Return the type in ``Weights`` (``ConvWeights`` where a pooling is fused); None where nothing says it."""
        stated = [
            value
            for key, value in self._fields.items()
            if key.endswith("weights") and value and isinstance(value, (dict, str))
        ]
        if not stated:
            return None
        if isinstance(stated[0], str):
            return _word(stated[0])
        fields = _fields(stated[0])
        if fields.get("count") == 0 and len(self._inputs) > 1:
            return _type_of(self._inputs[1])  # another layer computes them
        return _type_of(stated[0]) if fields.keys() - {"name", "count", "dimensions"} else None

    def _listed_weights(self) -> Any:
        """Choose the largest constant, or the second input if all are vectors: another kernel computes the weights."""
        largest = max(self._constants, key=_size)
        return self._inputs[1] if len(self._inputs) > 1 and _is_vector(largest) else largest


def generated_convolutions(kernel: str) -> int:
    """Count the convolutions in a kernel that TensorRT generated, by its name, which has small ones as ``Corr``."""
    return kernel.count("Corr") if kernel.startswith("__myl_") else 0


def _multiplied(read: str, weights: str | None) -> str:
    """Return INT8 only where both are; what one of them excludes is known even if the other is not."""
    if weights is None or read == weights:
        return read
    if read == _UNKNOWN:
        return weights
    if weights == _UNKNOWN:
        return _UNKNOWN if read == "INT8" else read
    return read if weights == "INT8" else weights


def _type_of(tensor: Any) -> str:
    """Return the precision that a port, a constant or a ``Weights`` names, in whatever field."""
    if isinstance(tensor, str):
        named = _NAMED.search(tensor)
        return _word(named[1]) if named else _UNKNOWN
    nested = {key: value for key, value in _fields(tensor).items() if isinstance(value, (str, dict, list))}
    fields = {key: value if isinstance(value, str) else json.dumps(value) for key, value in nested.items()}
    for key in ("datatype", "dtype"):
        if key in fields:
            return _word(fields[key])
    # A format alone comes last: its text names a type, but TensorRT 10 calls INT64 tensors "INT8 format" there.
    telling = (key for key, value in fields.items() if "type" in key or "format" in key or _NAMED.search(value))
    others = sorted((key for key in telling if key != "name"), key=lambda key: "format" in key)
    return next((found for found in (_word(fields[key]) for key in others) if found != _UNKNOWN), _UNKNOWN)


def _word(text: str) -> str:
    named = _NAMED.search(text)
    for word in re.findall(r"[a-z0-9]+", (named[1] if named else text).lower()):
        found = _PRECISIONS.get(word) or _PRECISIONS.get(word[1:] if word.startswith("k") else "")
        if found:
            return found
    return _UNKNOWN


def _plain(name: str) -> str:
    """Return a field's name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fields(listed: Any) -> dict[str, Any]:
    """Return the fields without those that say nothing, so that they do not hide another spelling that does."""
    found = listed.items() if isinstance(listed, dict) else ()
    return {_plain(str(key)): value for key, value in found if value is not None}


def _ports(listed: Any) -> list[Any]:
    if isinstance(listed, dict):
        return [listed] if "name" in _fields(listed) else list(listed.values())
    return listed if isinstance(listed, list) else [] if listed is None else [listed]


def _dimensions(port: Any) -> list[int]:
    found = _fields(port).get("dimensions")
    return [size for size in found if isinstance(size, int)] if isinstance(found, list) else []


def _size(port: Any) -> int:
    size = 1
    for dimension in _dimensions(port):
        size *= dimension
    return size


def _is_vector(port: Any) -> bool:
    """Tell whether all its values lie along one axis; False where its size is not listed."""
    dimensions = _dimensions(port)
    return bool(dimensions) and _size(port) == max(dimensions)


def _listed(counts: Mapping[str, int]) -> str:
    named = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count} not understood" if name == _UNKNOWN else f"{name} {count}" for name, count in named)
