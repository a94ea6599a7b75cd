"""Report on labelled data before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from edgeseg.app.data import Head, opened_parts, sides, spec_of_data
from edgeseg.app.data_config import DataCheckConfig
from edgeseg.app.sheet_file import refuse_other_picture, write_sheet
from edgeseg.data.check import SetReport, checked
from edgeseg.data.findings import Finding, found_in
from edgeseg.data.sheet import contact_sheet, evenly
from edgeseg.errors import EdgesegError
from edgeseg.images import Dataset
from edgeseg.progress import Progress
from edgeseg.spec import ModelSpec

__all__ = ["DataReport", "check_data"]


@dataclass(frozen=True)
class DataReport:
    """What was found.

    Attributes:
        spec: the classes.
        sets: training, and validation if there is one.
        findings: what a person should know.
        sheet: the contact sheet, or None.
    """

    spec: ModelSpec
    sets: tuple[SetReport, ...]
    findings: tuple[Finding, ...]
    sheet: Path | None

    @property
    def problems(self) -> int:
        """Return the number of files that cannot be used."""
        return sum(len(one.problems) for one in self.sets)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "classes": list(self.spec.classes),
            "sets": [one.to_json(self.spec) for one in self.sets],
            "findings": [{"kind": one.kind, "text": one.text} for one in self.findings],
            "sheet": None if self.sheet is None else str(self.sheet),
        }


def check_data(config: DataCheckConfig, progress: Progress = Progress()) -> DataReport:
    """Look at all images and masks, and report; files that cannot be used are part of the report.

    Args:
        config: what to look at.
        progress: counts images.

    Raises:
        UsageError: the data is not named well, or the sheet's name is taken by something else.
        EdgesegError: the data cannot be opened at all, or the sheet cannot be written.
    """
    train, val = sides(config.data, config.validation, config.split, config.fold)
    spec = spec_of_data(config.classes, config.ignore, train[0], head=Head(config.mode))
    sets = {"training": opened_parts(train, spec)}
    if val:
        sets["validation"] = opened_parts(val, spec)
    opened_sets = [one for data in sets.values() for one in data]
    if config.sheet is not None:
        refuse_other_picture(config.sheet, opened_sets)
    reports = [_together(role, data, spec, progress) for role, data in sets.items()]
    if config.sheet is not None:
        write_sheet(config.sheet, contact_sheet(_tiles(opened_sets, config.tiles), spec))
    return DataReport(spec, tuple(reports), tuple(found_in(reports, spec)), config.sheet)


def _together(role: str, data: list[Dataset], spec: ModelSpec, progress: Progress) -> SetReport:
    reports = [checked(role, one, spec, progress.count) for one in data]
    first, *others = reports
    for other in others:
        first = first + other
    return first


def _tiles(data: list[Dataset], most: int) -> Iterator[Any]:
    """Yield samples evenly spread over the data sets; those that cannot be read are left out."""
    index = [(one, inner) for one in data for inner in range(len(one))]
    for at in evenly(len(index), most):
        one, inner = index[at]
        try:
            yield one[inner]
        except EdgesegError:
            continue
