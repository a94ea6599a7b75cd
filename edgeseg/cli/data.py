"""``edgeseg data``: labelled data before training."""

from typing import Mapping

import typer

from edgeseg.app.data_augment import draw_augmented
from edgeseg.app.data_check import DataReport, check_data
from edgeseg.app.data_config import DataAugmentConfig, DataCheckConfig
from edgeseg.cli.console import Commands, JsonFlag, percent, print_json, say, table
from edgeseg.cli.options import command
from edgeseg.data.check import SetReport, shares
from edgeseg.errors import DatasetError

_MOST_PROBLEMS = 200

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Look at labelled data before training: counts, bad files, leaks, a contact sheet.",
)


@app.callback()
def _group() -> None:
    pass


def _check(config: DataCheckConfig, as_json: JsonFlag = False) -> None:
    """Read all images and masks, list what cannot be used, and tell what is rare, doubled or leaks into validation.

    Example: edgeseg data check camvid/train --val camvid/val --classes camvid --sheet sheet.png
    """
    report = check_data(config)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    if report.problems:
        images = sum(one.images for one in report.sets)
        raise DatasetError(f"{report.problems} files of {images} images cannot be used; all are listed above")


app.command("check")(command(DataCheckConfig, _check))


def _augment(config: DataAugmentConfig) -> None:
    """Draw augmented crops with their labels on a contact sheet, as a training would see them.

    Example: edgeseg data augment camvid/train --classes camvid --augment street --sheet street.png
    """
    say(f"contact sheet: {draw_augmented(config)}")


app.command("augment")(command(DataAugmentConfig, _augment))


def _show(report: DataReport) -> None:
    for one in report.sets:
        say(f"{one.role}: {one.description}")
        say(f"  {one.images} images, {one.masks} masks; {_counted(one.sizes)}; {_counted(one.kinds)}")
    columns = ["class", *(f"{one.role} {what}" for one in report.sets for what in ("pixels %", "images"))]
    by_set = [list(zip(shares(one), one.images_with.tolist())) for one in report.sets]
    rows = [
        [name, *(text for one in by_set for text in (percent(one[index][0]), str(one[index][1])))]
        for index, name in enumerate(report.spec.classes)
    ]
    rows.append(["(no class)", *(text for one in report.sets for text in (percent(_ignored(one)), ""))])
    table("classes", columns, rows)
    for one in report.sets:
        for problem in one.problems[:_MOST_PROBLEMS]:
            say(f"cannot be used ({one.role}): {problem.what}")
        if len(one.problems) > _MOST_PROBLEMS:
            say(f"... and {len(one.problems) - _MOST_PROBLEMS} more of {one.role}; --json lists all")
    for finding in report.findings:
        say(f"{finding.kind}: {finding.text}")
    if report.sheet is not None:
        say(f"contact sheet: {report.sheet}")


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (f" and {len(counts) - 4} more" if len(counts) > 4 else "") or "none read"


def _ignored(one: SetReport) -> float:
    return one.ignored / max(1, one.ignored + one.labelled)
