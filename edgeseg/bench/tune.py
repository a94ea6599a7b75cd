"""Which precision is fastest here, and right: candidates built, tested on golden frames, timed side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Callable, Sequence

import numpy as np

from edgeseg.bench.candidates import Candidate, Tuning, refuse_none, timed
from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Effort
from edgeseg.bundle import Bundle
from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions
from edgeseg.errors import EdgesegError

__all__ = ["candidates", "tuned"]


def candidates(factory: TensorRtFactory, dla_cores: int) -> list[TensorRtOptions]:
    """FP16, implicit INT8 and Q/DQ where they exist, and the first DLA core where there is one.

    A DLA takes INT8 from Q/DQ only where precision is in the graph.
    """
    api = factory.api
    implicit = ["int8-implicit"] if api.implicit_int8 else []
    found = [TensorRtOptions(precision=name) for name in [*implicit, "int8-qdq", "fp16"]]
    if dla_cores:
        int8 = implicit if api.precision_flags else ["int8-qdq"]
        found += [TensorRtOptions(precision=name, dla_core=0) for name in [*int8, "fp16"]]
    return found


def tuned(
    factory: TensorRtFactory,
    bundle: Bundle,
    model: str,
    tried: Sequence[TensorRtOptions],
    frames: Sequence[np.ndarray],
    *,
    seconds: float = 10.0,
    warmup_s: float = 5.0,
    on_result: Callable[[str], None] = lambda line: None,
) -> Tuning[TensorRtOptions]:
    """Build every candidate, drop those that fail their golden frames, and time the rest in alternating turns.

    Args:
        factory: of engines on this device.
        bundle: the model.
        model: its name.
        tried: what to compare.
        frames: HxWx3 uint8 BGR camera frames to time with.
        seconds: measuring time per candidate.
        warmup_s: warm-up per candidate.
        on_result: takes a line for people about each candidate.

    Raises:
        EngineError: no candidate can be taken.
    """
    found = [Candidate(options, _name(options)) for options in tried]
    for index, one in enumerate(found):  # all are built before any is kept open: a builder needs the memory
        try:
            factory.open(bundle, model, one.way).engine.close()
        except EdgesegError as error:
            found[index] = replace(one, refused=str(error))
            on_result(f"{one.name} is out: {error}")
    refuse_none(found)
    passed = [index for index, one in enumerate(found) if not one.refused]
    with ExitStack() as stack:
        contenders = {}
        for index in passed:
            opened = factory.open(bundle, model, found[index].way)
            stack.enter_context(opened.engine)
            contenders[index] = engine_contender(found[index].name, opened.engine, bundle.spec)
            found[index] = replace(found[index], self_test=opened.self_test, precisions=opened.cached.precisions)
        is_interrupted = timed(found, contenders, frames, Effort(seconds, warmup_s), on_result=on_result)
    tuning = Tuning(found, [one for one in found if one.measured is not None], is_interrupted=is_interrupted)
    is_int8 = str(tuning.best.way.precision).startswith("int8")
    remark = ". INT8 is not faster for this network on this device, or did not pass"
    return tuning if is_int8 else replace(tuning, remark=remark)


def _name(options: TensorRtOptions) -> str:
    """Return what people call it: ``int8-implicit``, ``fp16 on DLA 0``."""
    return f"{options.precision}{'' if options.dla_core is None else f' on DLA {options.dla_core}'}"
