"""What the page is made of: text that is escaped, tables and lists. No script, nothing from elsewhere."""

from __future__ import annotations

import html
import math
from typing import Collection, Iterable, Sequence

from edgeseg.compiler.report.style import STYLE
from edgeseg.compiler.report.summary import points

__all__ = ["NOTHING", "Markup", "change", "code", "facts", "html_page", "joined", "markup", "swatch", "table"]


class Markup(str):
    """HTML that is escaped already; every other ``str`` is text."""


def markup(template: str, *parts: object) -> Markup:
    """Fill the ``{}`` of a template with parts; all but Markup and numbers is escaped."""
    return Markup(
        template.format(*(part if isinstance(part, (Markup, int, float)) else html.escape(str(part)) for part in parts))
    )


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces of HTML one after the other."""
    return Markup("".join(parts))


def html_page(title: str, head: Markup, links: Markup, body: Markup) -> Markup:
    """Render a whole page with its style in it; browsers are told to load nothing."""
    return markup(_PAGE, title, Markup(STYLE), title, head, links, body)


def swatch(colour: Sequence[int], name: str) -> Markup:
    """Render a class name with its RGB colour before it."""
    return markup('<i class="swatch" style="background:#{}"></i>{}', Markup(bytes(colour).hex()), name)


def table(
    caption: str, columns: Sequence[object], rows: Iterable[Sequence[object]], *, text: Collection[int] = ()
) -> Markup:
    """Render a table that scrolls sideways where it must.

    Args:
        caption: what it shows.
        columns: headings.
        rows: cells; the first is the heading of its row.
        text: columns of words, which start at the left; numbers end at the right.
    """
    body = joined(markup("<tr>{}</tr>", joined(_cell(i, cell, text) for i, cell in enumerate(row))) for row in rows)
    head = joined(
        markup('<th scope="col"{}>{}</th>', _words(i == 0 or i in text), column) for i, column in enumerate(columns)
    )
    return markup(
        '<div class="wide" role="region" aria-label="{}" tabindex="0"><table><caption><span>{}</span></caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        caption, caption, head, body,
    )  # fmt: skip


def _cell(index: int, content: object, text: Collection[int]) -> Markup:
    if index == 0:
        return markup('<th scope="row">{}</th>', content)
    return markup("<td{}>{}</td>", _words(index in text), content)


def _words(are_words: bool) -> Markup:
    return Markup(' class="words"' if are_words else "")


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Render a list of (what, value)."""
    return markup(
        "<dl>{}</dl>", joined(markup("<div><dt>{}</dt><dd>{}</dd></div>", what, value) for what, value in pairs)
    )


def code(text: str) -> Markup:
    """Text in the letters of a machine."""
    return markup("<code>{}</code>", text)


def change(value: float, allowed: float) -> Markup:
    """Render a change in points: its colour and its sign say gain or loss; ✗ is a loss beyond the gate."""
    if not math.isfinite(value):
        return NOTHING
    said = points(value)
    beyond = value < -allowed
    style = "bad" if beyond else "loss" if said.startswith("−") else "gain" if said.startswith("+") else "same"
    return markup('<span class="change {}">{}{}</span>', style, "✗ " if beyond else "", said)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{}: edgeseg report</title>
<style>{}</style>
</head>
<body>
<header><h1>{}</h1>{}</header>
<nav aria-label="Sections">{}</nav>
<main>{}</main>
</body>
</html>
"""
NOTHING = Markup("")
