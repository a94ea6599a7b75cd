"""``edgeseg deploy``: a model to many boards over ssh, and back where it is not well."""

from edgeseg.app.deploy import Deployment
from edgeseg.app.deploy import deploy as bring
from edgeseg.app.deploy_config import DeployConfig
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside, table
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.cli.signals import stop_on_signals


def _deploy(config: DeployConfig, as_json: JsonFlag = False) -> None:
    """Let boards run a model: copy, check and measure it there, switch, watch; go back where a step fails.

    Example: edgeseg deploy mine.edgeseg nvidia@gate-1 nvidia@gate-2 --service edgeseg
    """
    with stop_on_signals(), told_progress(say_aside if as_json else say) as progress:
        found = bring(config, progress)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    found.require()


deploy = command(DeployConfig, _deploy)


def _print(found: Deployment) -> None:
    rows = []
    for one in found.hosts:
        golden = "-" if one.golden is None else percent(one.golden)
        times = [f"{ms:.2f}" if ms is not None else "-" for ms in (one.ms, one.ms_before)]
        models = [digest[:12] if digest else "-" for digest in (one.before, one.after)]
        why = f"{one.step}: {one.message}" if one.step else one.message
        rows.append([one.host, one.result, *models, golden, *times, f"{one.seconds:.1f}", why])
    columns = ["board", "result", "ran", "runs", "as FP32 %", "ms", "ms before", "s", "what"]
    table(f"{found.model}, {found.sha256[:12]}", columns, rows)
