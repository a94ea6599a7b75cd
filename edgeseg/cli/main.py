"""Entry point: builds the command tree and turns every expected failure into one line and an exit code."""

import errno
import importlib
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

import typer
import typer.core
from typing_extensions import Annotated

from edgeseg.cli.console import Commands, one_line
from edgeseg.cli.signals import leave_if_interrupted
from edgeseg.credentials import without_secrets_of
from edgeseg.errors import EdgesegError, first_line, missing
from edgeseg.files import text_of

# Name -> (module below edgeseg.cli, its function or typer app, line of the overview). A command is imported when it is
# asked for: ``--help`` and ``--version`` stay fast, and no command waits for the imports of the others.
COMMANDS: Dict[str, Tuple[str, str, str]] = {
    "train": ("train", "train", "Train a segmentation network on folders of images and masks."),
    "data": ("data", "app", "Look at labelled data before training: counts, bad files, leaks, a contact sheet."),
    "compile": (
        "compile",
        "compile_",
        "Compile a network into a bundle; INT8 graphs are emitted from one calibration "
        "and must pass the accuracy gate.",
    ),
    "run": ("run", "run", "Stream frames through a model and report ms/frame. Ctrl-C stops and prints the summary."),
    "predict": ("predict", "predict_", "Predict pictures, folders and videos, as well as the network can."),
    "archive": (
        "archive",
        "app",
        "Segment an archive of pictures and videos, on this machine or a cluster; a kill loses nothing.",
    ),
    "eval": ("eval", "eval_", "Measure IoU, Dice and pixel accuracy, and which objects were found."),
    "bench": (
        "bench",
        "bench",
        "Measure end-to-end ms/frame (resize, inference, class map) of every graph that runs here, in every engine.",
    ),
    "estimate": (
        "estimate",
        "estimate",
        "Forecast ms per frame on a Jetson from the graph alone, with a band. Nothing is measured on that Jetson.",
    ),
    "tune": (
        "tune",
        "tune",
        "Time what can run here, keep the fastest that passes its self-test: later runs without options take it.",
    ),
    "models": ("models", "models", "List the models that come with edgeseg, and what each was measured to achieve."),
    "inspect": ("inspect", "inspect", "Verify a bundle and show its spec, graphs, measured accuracy and provenance."),
    "sign": (
        "sign",
        "sign",
        "Sign a bundle, so that devices with --require-signature take it. Signatures by other keys stay.",
    ),
    "verify": (
        "verify",
        "verify",
        "Run the self-test: golden frames against the class maps that FP32 gave on the host. Exit 3 if it fails.",
    ),
    "doctor": (
        "doctor",
        "doctor",
        "Check this machine: board, JetPack, TensorRT, OpenCV, cameras, power, packages, the shipped model.",
    ),
    "calibrate": (
        "calibrate",
        "app",
        "Calibration data for INT8. Example: edgeseg calibrate select --camera 0 --seconds 600 -o frames",
    ),
    "engines": ("engines", "app", "List, delete and take in built TensorRT engines."),
    "export": (
        "export",
        "app",
        "Write a model for servers and runtimes of others: triton, deepstream, ncnn, litert, executorch.",
    ),
    "deploy": (
        "deploy",
        "deploy",
        "Let boards run a model: copy, check and measure it there, switch, watch; go back where a step fails.",
    ),
    "service": ("service", "app", "Run as a systemd service: install, status, remove."),
}


class _Edgeseg(Commands):
    """The commands; what is said of a wrong command line quotes it without its passwords."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: typer.core.TyperCommand(name, help=row[2]) for name, row in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: List[str]) -> Any:
        if args[0] in COMMANDS:
            self.commands[args[0]] = _imported(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:  # click's own types, which newer typers carry themselves
            if hasattr(error, "format_message"):
                vars(error)["message"] = without_secrets_of(sys.argv, str(vars(error).get("message", "")))
            raise


app = typer.Typer(
    name="edgeseg",
    cls=_Edgeseg,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Semantic segmentation from training to an NVIDIA Jetson: train, compile to proven INT8, stream, measure.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from edgeseg import __version__

        print(f"edgeseg {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        Optional[bool], typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = None,
) -> None:
    pass


def command_line() -> Any:
    """Return the click group of the whole command line with every command imported."""
    root = typer.main.get_command(app)
    vars(root)["commands"] = {name: _imported(name) for name in COMMANDS}
    return root


def _imported(name: str) -> Any:
    module, attribute, _ = COMMANDS[name]
    found = getattr(importlib.import_module(f"edgeseg.cli.{module}"), attribute)
    alone = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        alone.callback()(lambda: None)
        alone.add_typer(found, name=name)
        return vars(typer.main.get_command(alone))["commands"][name]
    alone.command(name)(found)
    return typer.main.get_command(alone)


_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the user can fix it, 2 bad usage, 3 a gate refused, 130 Ctrl-C."""
    _open_standard_streams()
    try:
        _main()
    except SystemExit as done:
        leave_if_interrupted(done.code)
        _leave_others(done.code)
        raise


def _leave_others(code: object) -> None:
    """End a process at once that failed among several: PyTorch's own end would wait for the others, and they for it."""
    if not isinstance(code, int) or not code:
        return
    from edgeseg.torchrun import place

    if place().count > 1:
        os._exit(code)  # what was said is written


def _open_standard_streams() -> None:
    """Where one is closed, the next file would get its number, and be written to by whoever prints."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _main() -> None:
    # One line per failure: OpenCV would print its own to stderr. What FFmpeg says is heard where a video is read.
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG"):
        os.environ.pop(name, None)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # ONNX Runtime's wheels since 1.29 would tell Microsoft about every session.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        os.getcwd()
    except OSError:
        _fail("the working directory is gone; change to one that exists", 1)
    try:
        try:
            app()
        finally:
            _flush_output()
    except EdgesegError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as done:
        if done.code == _INTERRUPTED:  # typer turns Ctrl-C into this exit without a word
            _fail("interrupted", _INTERRUPTED)
        raise
    except ImportError as error:
        if error.name is None or error.name.startswith("edgeseg"):
            raise
        _fail(str(missing(error.name, "", error)), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(_what_the_system_refused(error), 1)


def _flush_output() -> None:
    """Write what was printed. Raises OSError: nothing takes it; Python would say so at its end, with status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again
        raise


_REFUSALS = {
    errno.ENOSPC: "no space left on the disk; free some and run it again",
    errno.EDQUOT: "the disk quota is used up; free some and run it again",
    errno.EIO: "the disk or card reports an input/output error; look at dmesg, and copy what is on it",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.EMFILE: "this process has too many files open; raise the limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open",
    errno.ENOMEM: "there is no memory left; end other programs",
}


def _what_the_system_refused(error: OSError) -> str:
    """One line for any errno, with the file where the error knows it: that of a write after the opening does not."""
    known = _REFUSALS.get(error.errno or 0)
    what = known or error.strerror or first_line(error)
    names = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    if names:
        return f"{' -> '.join(map(text_of, names))}: {what}"
    return known or f"the system refused: {what} ({errno.errorcode.get(error.errno or 0, type(error).__name__)})"


def _fail(message: str, code: int) -> None:
    print(f"edgeseg: {one_line(without_secrets_of(sys.argv, message))}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
