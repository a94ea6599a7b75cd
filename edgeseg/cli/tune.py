"""``edgeseg tune``: which precision to run on this device, measured."""

from pathlib import Path
from typing import Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.data import dataset_from
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.cli.arguments import RequireSignatureOption
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.opening import tensorrt_provider
from edgeseg.errors import UsageError


def tune(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    flavour: Annotated[str, typer.Option(help="tensorrt or rtx.")] = "tensorrt",
    source: Annotated[
        str, typer.Option(help="Frames to time with: a folder or demo://street?frames=N.")
    ] = "demo://street?frames=16&step=30&size=640x480",
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time per candidate.")] = 10.0,
    warmup: Annotated[float, typer.Option(min=0.0, help="Warm-up time per candidate, in seconds.")] = 5.0,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Build FP16, implicit INT8 and Q/DQ (and DLA) engines, time them, keep the fastest that passes its self-test.

    Later 'edgeseg run' and 'compile' without options take it.

    Example: edgeseg tune street.edgeseg
    """
    from edgeseg.bench.tune import candidates, tuned
    from edgeseg.device.detect import detected_device
    from edgeseg.engines.tensorrt.api import FLAVOURS

    if flavour not in FLAVOURS:
        raise UsageError(f"--flavour is {' or '.join(FLAVOURS)}, got {flavour!r}")
    bundle, name = bundle_or_default(model, require_signature)
    images = dataset_from(source)
    frames = [images[index].frame for index in range(min(len(images), 64))]
    device = detected_device()
    tell = say_aside if as_json else say
    tell(f"model: {name}")
    tell(f"device: {device.describe()}")
    with tensorrt_provider(flavour, tell) as provider:
        tried = candidates(provider, provider.dla_cores())
        tell(f"up to {len(tried)} candidates, each built, then {seconds:g} s after {warmup:g} s of warm-up")
        tuning = tuned(
            provider, bundle, model_stem(name), tried, frames, seconds=seconds, warmup_s=warmup, on_result=tell
        )
        provider.choose(bundle, "tune", tuning.best.options)
    if as_json:
        found = [candidate.to_json() for candidate in tuning.candidates]
        print_json({"model": name, "device": device.to_json(), "candidates": found, "best": tuning.best.name})
        return
    rows = []
    for one in tuning.candidates:
        if one.measured is None or one.provided is None:
            rows.append([one.name, "-", "-", "-", "-", "out"])
            continue
        frame, share = one.measured.frame, one.provided.cached.precisions.int8_share
        taken = "taken" if one is tuning.best else "unstable clocks" if one.measured.unstable else ""
        agreement = percent(one.provided.self_test.agreement)
        rows.append([one.name, f"{frame.p50_ms:.2f}", f"{frame.p99_ms:.2f}", percent(share), agreement, taken])
    table(
        f"end-to-end ms/frame on {images.description}",
        ["candidate", "p50 ms", "p99 ms", "INT8 convs %", "as FP32 %", ""],
        rows,
    )
    say(tuning.verdict())
