"""``edgeseg export``: models for servers and runtimes of others."""

import typer

from edgeseg.app.export import export_triton
from edgeseg.app.export_config import ExportDeepstreamConfig, ExportRuntimeConfig, ExportTritonConfig
from edgeseg.app.export_graph import ExportedGraph, export_deepstream, export_runtime
from edgeseg.cli.console import Commands, JsonFlag, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Write a model for servers and runtimes of others: triton, deepstream, ncnn, litert, executorch.",
)


def _triton(config: ExportTritonConfig, as_json: JsonFlag = False) -> None:
    """Write a model into a repository of NVIDIA's Triton Inference Server, with its spec and a warm-up.

    Example: edgeseg export triton street.edgeseg models
    """
    done = export_triton(config, say_aside if as_json else say, factory_from=tensorrt_factory)
    if as_json:
        print_json(done.to_json())
        return
    say(f"model: {done.model}")
    say(f"wrote {done.name} for Triton's {done.backend} backend: {', '.join(done.files)}")
    say(f"next: tritonserver --model-repository {done.repository.resolve()}")


app.command("triton")(command(ExportTritonConfig, _triton))


def _deepstream(config: ExportDeepstreamConfig, as_json: JsonFlag = False) -> None:
    """Write a graph, its configuration, labels and colours for nvinfer of NVIDIA's DeepStream.

    Example: edgeseg export deepstream street.edgeseg deepstream
    """
    done = export_deepstream(config)
    _tell(done, f"nvinfer, {done.precision}", as_json)


def _ncnn(config: ExportRuntimeConfig, as_json: JsonFlag = False) -> None:
    """Write a model of ncnn, for phones and small boards. It is tried on this CPU.

    Example: edgeseg export ncnn street.edgeseg ncnn
    """
    _tell(export_runtime("ncnn", config), "ncnn", as_json)


def _litert(config: ExportRuntimeConfig, as_json: JsonFlag = False) -> None:
    """Write a model of LiteRT, the former TensorFlow Lite. It is tried on this CPU.

    Example: edgeseg export litert street.edgeseg litert
    """
    _tell(export_runtime("litert", config), "LiteRT", as_json)


def _executorch(config: ExportRuntimeConfig, as_json: JsonFlag = False) -> None:
    """Write a model of ExecuTorch for its XNNPACK backend. It is tried on this CPU.

    Example: edgeseg export executorch street.edgeseg executorch
    """
    _tell(export_runtime("executorch", config), "ExecuTorch", as_json)


def _tell(done: ExportedGraph, what: str, as_json: bool) -> None:
    if as_json:
        print_json(done.to_json())
        return
    say(f"model: {done.model}")
    say(f"wrote {done.folder} for {what}: {', '.join(done.files)}")
    share = f"{100 * done.agreement:.2f} % of pixels on {done.frames} golden frames"
    say(f"agreement: {share} have the class of the bundle's graph {done.graph}")
    if done.next:
        say(f"next: {done.next}")


app.command("deepstream")(command(ExportDeepstreamConfig, _deepstream))
app.command("ncnn")(command(ExportRuntimeConfig, _ncnn))
app.command("litert")(command(ExportRuntimeConfig, _litert))
app.command("executorch")(command(ExportRuntimeConfig, _executorch))
