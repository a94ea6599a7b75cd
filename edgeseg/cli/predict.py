"""``edgeseg predict``: stored pictures in, the best masks out that the network can give."""

from edgeseg.app.predict import predict
from edgeseg.app.predict_config import PredictConfig
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.cli.signals import stop_on_signals

__all__ = ["predict_"]


def _predict(config: PredictConfig, as_json: JsonFlag = False) -> None:
    """Predict pictures, folders and videos, as well as the network can.

    Example: edgeseg predict field.tif --tiles --flip -o masks
    """
    with stop_on_signals(), told_progress(say_aside if as_json else say) as progress:
        found = predict(config, progress, factory_from=tensorrt_factory)
    if as_json:
        print_json(found.to_json())
        return
    say(f"model:  {found.model}")
    say(f"engine: {found.engine}")
    each_ms = 1e3 * found.seconds / max(found.pictures, 1)
    say(f"{found.pictures} pictures, {each_ms:.0f} ms each with reading and writing -> {', '.join(found.outputs)}")


predict_ = command(PredictConfig, _predict)
