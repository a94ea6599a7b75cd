"""``edgeseg verify``: the golden frames of a bundle, on what would run it here."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.engines import engine_name
from edgeseg.app.models import bundle_or_default, model_stem, signature_lines
from edgeseg.cli.arguments import EngineName, EngineOption, GraphOption, RequireSignatureOption
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_provider
from edgeseg.errors import GateRefused, UsageError


def verify(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    graph: GraphOption = None,
    engine: EngineOption = EngineName.auto,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the self-test: golden frames against the class maps that FP32 gave on the host. Exit 3 if it fails.

    Example: edgeseg verify street.edgeseg
    """
    bundle, name = bundle_or_default(model, require_signature)
    tell = say_aside if as_json else say
    chosen = engine_name(engine.value)
    if chosen == "torch-tensorrt":
        raise UsageError("a program is verified each time it is opened: edgeseg run --engine torch-tensorrt --program")
    tell(f"model: {name}")
    for line in signature_lines(bundle, require_signature):
        tell(line)
    results: List[Dict[str, Any]] = []
    if chosen in ("tensorrt", "rtx"):
        from edgeseg.engines.tensorrt.provide import EngineOptions

        with tensorrt_provider(chosen, tell) as provider:
            made = provider.provide(bundle, model_stem(name), EngineOptions(precision=graph), test=True, refuse=False)
            with made.engine as opened:
                results.append({"graph": made.precision, "engine": opened.description, **made.self_test.to_json()})
    else:
        from edgeseg.engines import engine_from_bundle
        from edgeseg.engines.golden import self_tested
        from edgeseg.engines.select import cpu_graphs

        for one in [graph] if graph else cpu_graphs(bundle):
            with engine_from_bundle(bundle, one, engine=chosen) as opened:
                test = self_tested(opened, bundle, one)
            results.append({"graph": one, "engine": opened.description, **test.to_json()})
            tell(f"{'passed' if test.passed else 'FAILED'}: {one} in {chosen}: {test.describe()}")
    if as_json:
        print_json({"model": name, "signed_by": bundle.signer, "results": results})
    failed = [result["graph"] for result in results if not result["passed"]]
    if failed:
        raise GateRefused(f"self-test failed for {', '.join(failed)}; compile the bundle again, or run another graph")
