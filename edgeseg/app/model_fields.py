"""Fields of configurations that name a model and what runs it; several commands have them."""

from typing import Any

from edgeseg.app.config import ENGINE_NAMES, REQUIRE_SIGNATURE
from edgeseg.app.fields import option
from edgeseg.app.shipped import absolute_model

__all__ = ["engine_field", "fallback_field", "graph_field", "model_field", "program_field", "signature_field"]


def model_field() -> Any:
    """Declare the bundle that a command works on."""
    return option(
        None,
        help="A bundle, or a name of 'edgeseg models'; else your newest *.edgeseg here, else the shipped one.",
        is_argument=True,
        is_path=True,
        absolute=absolute_model,
    )


def engine_field(
    help: str = "auto: TensorRT on a Jetson, else the fastest CPU engine. rtx: TensorRT-RTX on an RTX GPU.",
) -> Any:
    """Declare the engine."""
    return option("auto", help=help, choices=ENGINE_NAMES)


def graph_field() -> Any:
    """Declare the graph of the bundle."""
    return option(
        None, help="Graph of the bundle, e.g. int8-cpu or fp32; for TensorRT: int8-implicit, int8-qdq, fp16 or fp32."
    )


def program_field() -> Any:
    """Declare the program of PyTorch that torch-tensorrt runs."""
    return option(
        None,
        help="With `engine` torch-tensorrt: the .pt2 program that was compiled of the same network.",
        is_path=True,
    )


def fallback_field() -> Any:
    """Declare whether the CPU may stand in for TensorRT."""
    return option(False, help="Where TensorRT or the engine of auto cannot be used, run another on the CPU and say so.")


def signature_field() -> Any:
    """Declare the keys one of which must have signed the bundle."""
    return option(
        None,
        help="Open a bundle only if 'edgeseg sign' signed it with the key of this PEM file (or one of several).",
        variable=REQUIRE_SIGNATURE,
        metavar="PUBLIC_KEY",
        is_path=True,
    )
