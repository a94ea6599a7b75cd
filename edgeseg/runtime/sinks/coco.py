"""Class maps as a COCO data set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any, Iterator

import numpy as np

from edgeseg.errors import SinkError
from edgeseg.runtime.contours import coco_polygons, coco_rle
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.spec import ModelSpec

__all__ = ["CocoSink"]

_FORMS = ("rle", "polygons")


class CocoSink(FrameSink):
    """Writes COCO annotations: one per class that a frame shows.

    While it runs, ``FILE.jsonl`` gets a line ``{"image": {...}, "annotations": [...]}`` per frame, after a first line
    with the categories. ``close`` makes ``FILE`` from it, one COCO document, whole or not at all; a run that appends
    to the lines of an earlier one gives a document of both. Category ids are class ids; ids that are no class are left
    out; ``iscrowd`` is 0. ``area`` is in pixels of the frame, ``bbox`` is ``[x, y, width, height]``.

    Args:
        path: of the document, e.g. ``out.json``.
        spec: class names.
        form: ``"rle"`` (exact, compressed run lengths) or ``"polygons"`` (see ``coco_polygons``).

    Raises:
        SinkError: unknown form, the files cannot be written, or the lines there are of another model.
    """

    def __init__(self, path: Path, spec: ModelSpec, form: str = "rle") -> None:
        if form not in _FORMS:
            raise SinkError(f"no COCO format {form!r}; there are {' and '.join(_FORMS)}")
        if path.suffix == ".jsonl":
            raise SinkError(f"{path} is where the lines would go; name the document, e.g. {path.stem}.json")
        self._path, self._form = path, form
        self._lines_path = path.with_suffix(".jsonl")
        self._class_count = len(spec.classes)
        categories = [{"id": number, "name": name} for number, name in enumerate(spec.classes)]
        self._lines = LineFile(self._lines_path, _line({"categories": categories}))
        self._images = _images_in(self._lines_path)
        self._is_current = False
        self.description = f"COCO annotations ({form}) in {path}"

    def write(self, result: Segmentation) -> None:
        number = self._images + 1
        height, width = result.classes.shape
        image = {
            "id": number,
            "file_name": result.frame.name,
            "width": width,
            "height": height,
            "source": result.frame.source,
            "frame": result.frame.index,
        }
        annotations = [
            {"id": number * 256 + owner, "image_id": number, "category_id": owner, "iscrowd": 0, **shape}
            for owner, shape in self._shapes(result.classes)
        ]
        self._lines.append(_line({"image": image, "annotations": annotations}))
        self._images, self._is_current = number, False

    def close(self) -> None:
        self._lines.close()
        if self._is_current:
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="ascii") as file:
                _write_document(self._lines_path, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            self._is_current = True
        except OSError as error:
            raise SinkError(
                f"{self._path} cannot be written: {error.strerror}; everything is in {self._lines_path}"
            ) from error
        finally:
            if temporary.exists():
                temporary.unlink()

    def _shapes(self, classes: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        runs = coco_rle(classes) if self._form == "rle" else {}
        for owner in np.flatnonzero(np.bincount(classes.ravel())).tolist():
            if owner >= self._class_count:
                continue
            mask = classes == owner
            shape = {"area": int(np.count_nonzero(mask)), "bbox": _box(mask)}
            yield owner, {"segmentation": runs[owner] if runs else coco_polygons(mask), **shape}


def _box(mask: np.ndarray) -> list[int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n"


def _images_in(path: Path) -> int:
    """How many images the lines hold; each has its line, after that of the categories."""
    with open(path, "rb") as file:
        return sum(1 for _ in file) - 1


def _write_document(lines: Path, file: IO[str]) -> None:
    """Twice over the lines, so that a long run needs little memory."""
    with open(lines, encoding="ascii") as content:
        file.write(json.dumps(json.loads(next(content)))[:-1])
        file.write(', "images": [')
        between = ""
        for line in content:
            file.write(between + json.dumps(json.loads(line)["image"]))
            between = ",\n"
        content.seek(0)
        next(content)
        file.write('], "annotations": [')
        between = ""
        for line in content:
            for annotation in json.loads(line)["annotations"]:
                file.write(between + json.dumps(annotation))
                between = ",\n"
        file.write("]}\n")
