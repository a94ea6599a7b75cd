"""Class maps as a COCO data set."""

from __future__ import annotations

import json
import os
import secrets
from itertools import islice
from pathlib import Path
from typing import Any, Iterator

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError, UsageError
from edgeseg.files import file_state, move_new, text_of
from edgeseg.runtime.drawing.contours import coco_polygons, coco_rle
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.runtime.sinks.own import refuse_unless_plain
from edgeseg.spec import ModelSpec

__all__ = ["CocoSink"]

_FORMS = ("rle", "polygons")


class CocoSink(FrameSink):
    """Writes COCO annotations: one per class that a frame shows.

    While it runs, ``FILE.jsonl`` gets a line ``{"image": {...}, "annotations": [...]}`` per frame, after a first line
    with the categories. ``close`` makes ``FILE`` from it, one COCO document, whole or not at all; a run that appends
    to the lines of an earlier one gives a document of both. Category ids are class ids; ids that are no class are left
    out; ``iscrowd`` is 0. ``area`` is in pixels of the frame, ``bbox`` is ``[x, y, width, height]``. An image of a
    stored video has ``time_s``, the seconds from its first frame.

    Args:
        path: of the document, e.g. ``out.json``.
        spec: class names.
        form: ``"rle"`` (exact, compressed run lengths) or ``"polygons"`` (see ``coco_polygons``).
        overwrite: begin both files anew. Without it a document is replaced only when it is what a former run made of
            its lines, and nobody edited it.

    Raises:
        ForeignFileError: the document or the lines are another program's or another model's, or were edited.
        UsageError: unknown form. SinkError: the files cannot be written.
    """

    def __init__(self, path: Path, spec: ModelSpec, form: str = "rle", *, overwrite: bool = False) -> None:
        if form not in _FORMS:
            raise UsageError(f"no COCO format {form!r}; there are {' and '.join(_FORMS)}")
        if path.suffix.lower() == ".jsonl":
            raise SinkError(f"{path} is where the lines would go; name the document, e.g. {path.stem}.json")
        self._path, self._form = path, form
        self._lines_path = path.with_suffix(".jsonl")
        self._class_count = len(spec.classes)
        categories = [{"id": number, "name": name} for number, name in enumerate(spec.classes)]
        for file in (path, self._lines_path):
            refuse_unless_plain(file)
        self._before = file_state(path)
        if self._before is not None and not (overwrite or _is_made_from(path, self._lines_path)):
            raise ForeignFileError(
                f"{path} is not what a run of edgeseg made of {self._lines_path}, or was edited since; "
                "name a new file, or pass `overwrite`"
            )
        header = _line({"categories": categories})
        self._lines = LineFile(self._lines_path, header, b"{", _is_whole, overwrite=overwrite)
        self._images = _images_in(self._lines_path)
        self._is_current = False
        self.description = f"COCO annotations ({form}) in {path}"

    def write(self, result: Segmentation) -> None:
        """Append the image and its annotations to the lines. Raises SinkError."""
        number = self._images + 1
        height, width = result.classes.shape
        image: dict[str, Any] = {
            "id": number,
            "file_name": text_of(result.frame.name),
            "width": width,
            "height": height,
            "source": result.frame.source,
            "frame": result.frame.index,
        }
        if result.frame.media_ns is not None:
            image["time_s"] = round(result.frame.media_ns / 1e9, 6)
        annotations = [
            {"id": number * 256 + owner, "image_id": number, "category_id": owner, "iscrowd": 0, **shape}
            for owner, shape in self._shapes(result.classes)
        ]
        self._lines.append(_line({"image": image, "annotations": annotations}))
        self._images, self._is_current = number, False

    def close(self) -> None:
        """Write the COCO file from the lines. May be called twice. Raises SinkError."""
        self._lines.close()
        if self._is_current:
            return
        temporary = self._path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "x", encoding="ascii") as file:
                file.writelines(_document(self._lines_path))
                file.flush()
                os.fsync(file.fileno())
            self._publish(temporary)
            self._before, self._is_current = file_state(self._path), True
        except FileExistsError as error:
            raise ForeignFileError(
                f"{self._path} was written by another program during the run and is kept; "
                f"everything is in {self._lines_path}"
            ) from error
        except OSError as error:
            raise SinkError(
                f"{self._path} cannot be written: {error.strerror}; everything is in {self._lines_path}"
            ) from error
        finally:
            if temporary.exists():
                temporary.unlink()

    def _publish(self, temporary: Path) -> None:
        """Give the document its name. Raises FileExistsError: another program wrote there since this sink looked."""
        if self._before is None:
            move_new(temporary, self._path)
        elif file_state(self._path) in (self._before, None):
            os.replace(temporary, self._path)
        else:
            raise FileExistsError

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


def _is_whole(line: bytes) -> bool:
    try:
        return "image" in json.loads(line.decode())
    except (ValueError, RecursionError, TypeError):
        return False


_BETWEEN = '], "annotations": ['


def _document(lines: Path, most: int | None = None) -> Iterator[str]:
    """The text of the document of all images, or of the first few; twice over the lines, so that a long run needs
    little memory."""
    with open(lines, encoding="ascii") as content:
        yield json.dumps(json.loads(next(content)))[:-1] + ', "images": ['
        for number, line in enumerate(islice(content, most)):
            yield (",\n" if number else "") + json.dumps(json.loads(line)["image"])
        content.seek(0)
        next(content)
        yield _BETWEEN
        between = ""
        for line in islice(content, most):
            for annotation in json.loads(line)["annotations"]:
                yield between + json.dumps(annotation)
                between = ",\n"
        yield "]}\n"


def _is_made_from(document: Path, lines: Path) -> bool:
    """Whether a document is, to the byte, that of the first so many lines: a run that was killed left more lines."""
    try:
        with open(document, encoding="ascii", newline="") as file:
            images = 0
            for images, line in enumerate(file, 1):  # one image in each, up to the annotations
                if _BETWEEN in line:
                    images -= f'"images": [{_BETWEEN}' in line
                    break
            file.seek(0)
            return all(file.read(len(part)) == part for part in _document(lines, images)) and not file.read(1)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, RecursionError):  # it is something else
        return False
