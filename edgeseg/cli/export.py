"""``edgeseg export``: models for servers of others."""

import typer

from edgeseg.app.export import export_triton
from edgeseg.app.export_config import ExportTritonConfig
from edgeseg.cli.console import Commands, JsonFlag, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Write a model for a server of others: triton.")


@app.callback()
def _group() -> None:
    pass


def _triton(config: ExportTritonConfig, as_json: JsonFlag = False) -> None:
    """Write a model into a repository of NVIDIA's Triton Inference Server, with its spec and a warm-up.

    Example: edgeseg export triton street.edgeseg -o models
    """
    done = export_triton(config, say_aside if as_json else say, factory_from=tensorrt_factory)
    if as_json:
        print_json(done.to_json())
        return
    say(f"model: {done.model}")
    say(f"wrote {done.name} for Triton's {done.backend} backend: {', '.join(done.files)}")
    say(f"next: tritonserver --model-repository {done.repository.resolve()}")


app.command("triton")(command(ExportTritonConfig, _triton))
