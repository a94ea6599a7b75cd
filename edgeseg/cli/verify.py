"""``edgeseg verify``: the golden frames of a bundle, on what would run it here."""

from edgeseg.app.bench_config import VerifyConfig
from edgeseg.app.verify import verify as run_self_tests
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress


def _verify(config: VerifyConfig, as_json: JsonFlag = False) -> None:
    """Run the self-test: golden frames against the class maps that FP32 gave on the host. Exit 3 if it fails.

    Example: edgeseg verify street.edgeseg
    """
    with told_progress(say_aside if as_json else say) as progress:
        found = run_self_tests(config, progress, factory_from=tensorrt_factory)
    if as_json:
        print_json(found.to_json())
    found.require()


verify = command(VerifyConfig, _verify)
