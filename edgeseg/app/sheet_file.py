"""The contact sheet that a command writes: an earlier one is replaced, and no other picture."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np

from edgeseg.app.targets import refuse_foreign
from edgeseg.files import atomic_write
from edgeseg.images import Dataset, StoredDataset

__all__ = ["refuse_other_picture", "write_sheet"]


def refuse_other_picture(sheet: Path, data: Sequence[Dataset]) -> None:
    """Refuse a name that another picture has, before all images are looked at.

    Args:
        sheet: the file to write.
        data: what is drawn on it.

    Raises:
        UsageError: the name is that of an image or mask of the data, or of a file that is no contact sheet.
    """
    from edgeseg.runtime.sinks.clash import refuse_overwriting
    from edgeseg.runtime.sinks.own import is_own_png

    refuse_foreign(sheet, "contact sheet of edgeseg", is_own_png)
    stored = [one for one in data if isinstance(one, StoredDataset)]
    masks = [mask.path for one in stored for mask in one.masks if mask is not None]
    read = {*masks, *(path for one in stored for path in one.files)}  # masks that predict wrote have the mark, too
    refuse_overwriting([], [], sorted(read), others=[(f"`sheet` {sheet}", (sheet,), ())])


def write_sheet(sheet: Path, picture: np.ndarray) -> None:
    """Write HxWx3 (BGR) uint8 as PNG with edgeseg's mark. Raises OSError: the disk refused."""
    from edgeseg.runtime.sinks.own import own_png

    atomic_write(sheet, own_png(picture, sheet), durable=False)
