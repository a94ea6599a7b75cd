"""Write the page of a run: its curves, its classes, samples and settings, in one file that needs no other."""

from __future__ import annotations

import base64
import html
import json
import math
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.metrics import tallies

__all__ = ["summary_html"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20242c; margin: 2rem auto; max-width: 1440px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e2e5eb; text-align: right; }
th:first-child, td:first-child, .words td { text-align: left; }
i.colour { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em; }
"""


def summary_html(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    counts: np.ndarray,
    palette: Mapping[str, Sequence[int]],
    pictures: Mapping[str, bytes],
) -> str:
    """Return the page of a run.

    Args:
        facts: what its checkpoints say, with ``epochs_trained`` and ``val_miou`` of the best.
        rows: of the table of metrics, one per epoch.
        counts: confusion matrix of the best epoch, CxC; row = label, column = prediction. Of a multi-label network
            Kx2x2 of ``MultilabelCounts``.
        palette: name -> RGB of every class.
        pictures: title -> PNG.
    """
    classes = list(palette)[-len(counts) :]  # class 0 of several labels is not measured
    best = facts["epochs_trained"]
    shown = "".join(
        f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for title, data in pictures.items()
    )
    title = f"mIoU {_percent(facts['val_miou'])}, epoch {best} of {len(rows)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body><h1>{html.escape(title)}</h1>{shown}"
        f"<h2>Classes, epoch {best}</h2>{_classes(classes, counts, palette)}"
        f"{_confusion(classes, counts) if counts.ndim == 2 else ''}"
        f"<h2>Settings</h2>{_settings(facts)}<h2>Epochs</h2>{_epochs(rows)}</body></html>\n"
    )


def _classes(classes: Sequence[str], counts: np.ndarray, palette: Mapping[str, Sequence[int]]) -> str:
    hits, labels, found, pixels = tallies(counts)
    body = []
    for index, name in enumerate(classes):
        union = labels[index] + found[index] - hits[index]
        measures = (
            _ratio(hits[index], union),
            _ratio(2 * hits[index], labels[index] + found[index]),
            _ratio(hits[index], labels[index]),
            _ratio(hits[index], found[index]),
            _ratio(labels[index], pixels[index]),
        )
        swatch = f'<i class="colour" style="background: rgb({",".join(map(str, palette[name]))})"></i>'
        body.append([swatch + html.escape(name), *map(_percent, measures)])
    return _table(["class", "IoU", "Dice", "recall", "precision", "share of pixels"], body)


def _confusion(classes: Sequence[str], counts: np.ndarray) -> str:
    names = [html.escape(name) for name in classes]
    body = []
    for name, row in zip(names, counts):
        shares = [_ratio(value, row.sum()) for value in row]
        body.append([name, *(f"{100 * share:.1f}" if share >= 0.0005 else "" for share in shares)])
    table = _table(["", *names], body)
    return f"<h2>Confusion: of each label's pixels (row), % found as (column)</h2>{table}"


def _settings(facts: Mapping[str, Any]) -> str:
    known = {
        **facts["network"],
        "initial weights": facts["initial_weights"],
        "training data": ", ".join(facts["training_data"]),
        "validation data": facts["validation_data"],
        **({"teachers": ", ".join(facts["teachers"])} if facts.get("teachers") else {}),
        "size": "{1}x{0}".format(*facts["size_hw"]),
        "mode": facts["mode"],
        **({} if facts["mode"] == "multiclass" else {"threshold": facts["threshold"]}),
        **{name.replace("_", " "): value for name, value in facts["recipe"].items()},
        **facts["versions"],
    }
    body = [
        [html.escape(name), html.escape(value if isinstance(value, str) else json.dumps(value))]
        for name, value in known.items()
    ]
    return _table(["", ""], body, "words")


def _epochs(rows: Sequence[Mapping[str, str]]) -> str:
    names = [name for name in rows[0] if not name.startswith("iou ")] if rows else []
    return _table([html.escape(name) for name in names], [[html.escape(row[name]) for name in names] for row in rows])


def _table(head: Sequence[str], body: Sequence[Sequence[str]], kind: str = "") -> str:
    top = "".join(f"<th>{one}</th>" for one in head)
    lines = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in body)
    return f'<div class="scroll"><table class="{kind}"><tr>{top}</tr>{lines}</table></div>'


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else math.nan


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "-"
