"""Write the pages that follow from the code, as listed in ``WRITTEN``. ``python docs/generate.py [--check]``."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from pathlib import Path
from typing import Any, Iterator

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.config import RunConfig
from edgeseg.app.fields import Config, Field, fields_of
from edgeseg.app.train_config import TrainConfig
from edgeseg.cli.console import with_flags
from edgeseg.cli.main import command_line
from edgeseg.cli.options import flags_of
from edgeseg.data.encodings import ENCODINGS
from edgeseg.data.layouts import LAYOUTS
from edgeseg.data.layouts.base import COMMON
from edgeseg.device.jetpack import RELEASES, SOCS
from edgeseg.device.specifications import ARCHITECTURES, JETSONS
from edgeseg.estimate.forecast import Forecast, forecast, own_networks
from edgeseg.mask_files import MASK_NAMES
from edgeseg.runtime.alarms.actions import ACTIONS
from edgeseg.runtime.monitoring import prometheus as metrics
from edgeseg.runtime.monitoring import sink as field
from edgeseg.runtime.sinks.uri import SINKS
from edgeseg.runtime.sources.uri import SOURCES
from edgeseg.uris import UriKind

ROOT = Path(__file__).resolve().parents[1]
NOTICE = "<!-- Written by docs/generate.py from the code. Do not edit. -->\n"
PANEL = "Options"


def cli_page() -> str:
    """Return the page of all commands with their arguments and options, as ``--help`` shows them."""
    head = f"""{NOTICE}
# Command line

This page is generated from the program. `edgeseg COMMAND --help` shows the same.
Every command that reports something takes `--json`. [JSON outputs](json.md) describes the documents.
[Exit codes](exit-codes.md) describes how a command ends.

| environment variable | what it does |
|---|---|
| `EDGESEG_TOKEN` | the token of the page, as `--token` |
| `EDGESEG_REQUIRE_SIGNATURE` | demands signatures of every bundle, as `--require-signature` |
| `XDG_CACHE_HOME` | where engines and steps of compilations are kept, in a folder `edgeseg`; else `~/.cache` |
"""
    root = command_line()
    return head + "".join(_section(command, name) for name, command in _commands(root, "edgeseg"))


def metrics_page() -> str:
    """Return the page of the metrics that ``/metrics`` gives."""
    table = "\n".join(line.replace("``", "`") for line in (metrics.__doc__ or "").splitlines() if line[:1] == "|")
    return f"""{NOTICE}
# Metrics

`edgeseg run` with `--preview HOST:PORT` serves these metrics for Prometheus under `/metrics`.
Each scrape reads the state of the run. Nothing is counted twice.
Quantiles are over the latest 10,000 frames. Quantile 1 is the maximum.

{table}

With `--shadow` or `--drift` there are more:

| metric | type | labels | what it is |
|---|---|---|---|
{_field_rows()}

Prometheus sends the token of `--token` as `authorization: {{credentials: TOKEN}}`.
A board for Grafana is in [jetson/grafana/edgeseg.json](../../jetson/grafana/edgeseg.json).
"""


def jetpack_page() -> str:
    """Return the page of JetPacks with its table of releases as the program knows them."""
    head = "| JetPack | L4T | CUDA | TensorRT | chips | DLA |\n|---|---|---|---|---|---|\n"
    rows = "".join(map(_release_row, filter(lambda one: one.usable, RELEASES)))
    return _filled("docs/how-to/jetpack.md", {"releases": head + rows})


def estimate_page() -> str:
    """Return the page of forecasts with the table of every Jetson, as the program computes it."""
    head = "| board, power mode | network | INT8: P10, GPU ms, P90 | FP16: P10, GPU ms, P90 |\n|---|---|---|---|\n"
    rows = []
    for board, mode, network, found in _forecasts():
        cells = [
            f"{found[name].low_ms:.1f}, **{found[name].gpu_ms:.1f}**, {found[name].high_ms:.1f}"
            if name in found
            else "-"
            for name in ("int8", "fp16")
        ]
        rows.append(f"| {JETSONS[board].name}, {mode} | `{network}` | {cells[0]} | {cells[1]} |\n")
    return _filled("docs/how-to/estimate.md", {"forecasts": head + "".join(rows)})


def estimate_picture() -> str:
    """Return the picture of the same forecasts: a bar from P10 to P90 and a mark at the forecast, ms on a log scale."""
    left, top, high, wide = 250, 44, 15, 560
    colours = {("edge_unet", "int8"): "#0b6e4f", ("edge_unet", "fp16"): "#7bc8a4"}
    colours.update({("unet", "int8"): "#8a3b12", ("unet", "fp16"): "#e0a37e"})

    def place(ms: float) -> float:
        return left + wide * (math.log10(ms) + 0.3) / 3.1

    lines, y = [], top
    for board, jetson in JETSONS.items():
        for mode in jetson.modes:
            lines.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{jetson.name}, {mode}</text>')
            for at, (_, _, network, found) in enumerate(one for one in _forecasts() if one[:2] == (board, mode)):
                for below, (precision, one) in enumerate(sorted(found.items(), reverse=True)):
                    colour, middle = colours[network, precision], y + 2 + 6 * at + 3 * below
                    start, end = place(one.low_ms), place(one.high_ms)
                    lines.append(
                        f'<rect x="{start:.1f}" y="{middle}" width="{end - start:.1f}" height="2" fill="{colour}"/>'
                    )
                    lines.append(f'<circle cx="{place(one.gpu_ms):.1f}" cy="{middle + 1}" r="2.4" fill="{colour}"/>')
            y += high
    for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        lines.insert(0, f'<line x1="{place(ms):.1f}" y1="{top}" x2="{place(ms):.1f}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="{place(ms):.1f}" y="{top - 6}" text-anchor="middle">{ms}</text>')
    legend = "".join(
        f'<circle cx="{left + 140 * at}" cy="16" r="4" fill="{colour}"/>'
        f'<text x="{left + 8 + 140 * at}" y="20">{network} {precision.upper()}</text>'
        for at, ((network, precision), colour) in enumerate(colours.items())
    )
    size = f'width="{left + wide + 20}" height="{y + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    body = "\n".join(lines)
    return f'{head}\n<rect width="100%" height="100%" fill="white"/>\n{legend}\n{body}\n</svg>\n'


def _forecasts() -> Iterator[tuple[str, str, str, dict[str, Forecast]]]:
    """(board, mode, network, precision -> forecast) with MobileNetV2 at 512x512."""
    named = {one.name: one for one in own_networks()}
    for board, jetson in JETSONS.items():
        for mode in jetson.modes:
            for network in ("edge_unet", "unet"):
                there = [one for one in ("int8", "fp16") if one in ARCHITECTURES[jetson.architecture].dense]
                kernels = named[f"{network} + mobilenet_v2"]
                yield board, mode, network, {one: forecast(kernels, board, mode, one) for one in there}


def configuration_page() -> str:
    """Return the page of the files that ``run``, ``compile`` and ``train`` read, with every field of them."""
    head = f"""{NOTICE}
# Configuration files

`edgeseg run`, `compile` and `train` take a file of settings in place of the model or the data.
It ends in `.toml` or `.json`. Options beside it override it, and give what it lacks.
So does data behind it: `edgeseg train mine.toml data/more`.
`--no-legend` turns off what it turns on.
`--save-config FILE` writes the settings of a command line to such a file. The command goes on.
A file that was edited is not replaced.

```toml
# street.toml, for: edgeseg compile street.toml
model = "runs/street/best.safetensors"
int8 = true
calibration = ["camvid/train"]
evaluation = "camvid/val"
out = "street.edgeseg"

[limits]
max_drop = 0.5
```

A field that is left out has its default. A name that is no field is an error.
Fields with a dot stand in a table of that name: `limits.max_drop` is `max_drop` under `[limits]`.
Relative paths are relative to the folder that the command runs in. `~` is no folder here: only shells know it.

`edgeseg train` keeps its settings as `training.toml` beside the checkpoints.
"""
    kinds = (("run", RunConfig), ("compile", CompileConfig), ("train", TrainConfig))
    return head + "".join(_fields(f"edgeseg {name}", kind) for name, kind in kinds)


def _fields(title: str, kind: type[Config]) -> str:
    rows = "\n".join(map(_field_row, fields_of(kind)))
    return f"\n## {title}\n\n| field | option | default | |\n|---|---|---|---|\n{rows}\n"


def _field_row(field: Field) -> str:
    default = field.default
    shown = "" if default in (None, "", ()) else f"`{_toml(default)}`"
    shown = "required" if default is dataclasses.MISSING else shown
    names = ", ".join(f"`{name}`" for name in field.flag.split("/"))
    return f"| `{field.key}` | {names} | {shown} | {_cell(field.about.help)} |"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def streams_page() -> str:
    """Return the page of sources and sinks with its tables as the program knows them."""
    sources = "| `--source` | what it is | frames that count |\n|---|---|---|\n"
    count = {True: "the latest", False: "every one", None: "depends on what is there"}
    for source in SOURCES.values():
        sources += (
            f"| {_form(source)} | {_with_flags(source.help)} | {count[source.is_live]} |\n" if source.shown else ""
        )
    sinks = "| `--sink` | what it writes |\n|---|---|\n"
    sinks += "".join(f"| {_form(sink)} | {_with_flags(sink.help)} |\n" for sink in SINKS.values() if sink.shown)
    return _filled("docs/reference/sources-and-sinks.md", {"sources": sources, "sinks": sinks})


def alarms_page() -> str:
    """Return the page of alarms with the table of actions as the program knows them."""
    rows = "".join(f"| `{action.shown}` | {action.help} |\n" for action in ACTIONS.values() if action.shown)
    return _filled("docs/how-to/alarms.md", {"actions": f"| value | what happens |\n|---|---|\n{rows}"})


def _with_flags(text: str) -> str:
    return with_flags(text, {name: f"`{flag}`" for name, flag in flags_of(RunConfig).items()})


def data_page() -> str:
    """Return the page of layouts of data with its tables as the program knows them."""
    layouts = "| data | what it is | its parameters |\n|---|---|---|\n"
    for layout in LAYOUTS.values():
        own = ", ".join(f"`{name}={_cell(values)}`" for name, values in layout.parameters.items() if name not in COMMON)
        layouts += f"| `{layout.shown}` | {layout.help} | {own} |\n"
    encodings = "| `masks=` | what it does |\n|---|---|\n"
    for name, read in ENCODINGS.items():
        text = (read.__doc__ or "").strip().rstrip(".")
        encodings += f"| `{name}` | {text[0].lower()}{text[1:]} |\n"
    names = ", ".join(f"`{pair}`" for pair in MASK_NAMES) + "\n"
    return _filled("docs/reference/data.md", {"layouts": layouts, "encodings": encodings, "names": names})


def _form(kind: UriKind) -> str:
    """A URI as code. A bar in it is written so that both code hosts and the built pages show it alone in a table."""
    form = kind.form.replace("&", "&amp;").replace("|", "&#124;") if "|" in kind.form else kind.form
    return f"<code>{form}</code>" if "|" in kind.form else f"`{form}`" if "://" in form else form


def _filled(name: str, tables: dict[str, str]) -> str:
    """The text of a page in which what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is written anew."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for mark, table in tables.items():
        before, rest = text.split(f"<!-- {mark} -->\n")
        end = f"<!-- /{mark} -->"
        text = f"{before}<!-- {mark} -->\n\n{table}\n{end}{rest.split(end)[1]}"
    return text


def _release_row(one: Any) -> str:
    newer = f", or {one.newer_tensorrt}" if one.newer_tensorrt else ""
    dla = one.dla or (f"with TensorRT {one.newer_tensorrt}: {one.newer_dla}" if one.newer_dla else "none")
    chips = ", ".join(SOCS[name].family for name in one.socs)
    l4t = ", ".join(one.l4t) or "not published"
    return f"| {one.jetpack} | {l4t} | {one.cuda} | {one.tensorrt}{newer} | {chips} | {dla} |\n"


def _field_rows() -> str:
    """Rows of the field's metrics, read from where they are made."""
    source = Path(field.__file__).read_text(encoding="utf-8")
    made = re.findall(r'(Gauge|Counter)MetricFamily\(\s*"(\w+)", "([^"]+)"(?:, labels=\["(\w+)"\])?', source)
    made += re.findall(r'(Gauge|Counter)MetricFamily\(\s*"(\w+)",\s*"([^"]+)",\s*labels=\["(\w+)"\]', source)
    rows = {}
    for kind, name, text, label in made:
        full = f"{name}_total" if kind == "Counter" else name
        rows[full] = f"| `{full}` | {kind.lower()} | {label} | {_small(text)} |"
    return "\n".join(rows[name] for name in sorted(rows))


def _small(text: str) -> str:
    """``Frames measured.`` -> ``frames measured``; ``IoU of ...`` keeps its capitals."""
    first, _, rest = text.rstrip(".").partition(" ")
    return f"{first if first[1:] != first[1:].lower() else first.lower()} {rest}"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, inner in command.commands.items():
        if getattr(inner, "hidden", False):
            continue
        yield from _commands(inner, f"{name} {word}")


def _section(command: Any, name: str) -> str:
    text, example = _parted(command.help or "")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    parts = [f"\n## {name}\n", text, f"\n```sh\n{example}\n```\n" if example else ""]
    if arguments:
        rows = "\n".join(f"| `{one.name.upper()}` | {_cell(getattr(one, 'help', '') or '')} |" for one in arguments)
        parts.append(f"\n| argument | |\n|---|---|\n{rows}\n")
    for panel, options in _panels(command).items():
        rows = "\n".join(map(_row, options))
        parts.append(f"\n| {panel.lower() if panel == PANEL else panel} | default | |\n|---|---|---|\n{rows}\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(filter(None, parts)))


def _parted(text: str) -> tuple[str, str]:
    """(what a command does, its example) of a help text."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    examples = [part[len("Example: ") :] for part in paragraphs if part.startswith("Example: ")]
    return "\n\n".join(part for part in paragraphs if not part.startswith("Example: ")), "\n".join(examples)


def _panels(command: Any) -> dict[str, list[Any]]:
    panels: dict[str, list[Any]] = {}
    for one in command.params:
        if one.param_type_name == "option" and not getattr(one, "hidden", False):
            panels.setdefault(getattr(one, "rich_help_panel", None) or PANEL, []).append(one)
    return panels


def _row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    default = option.default
    shown = "" if default in (None, False, "", ()) or callable(default) or option.is_flag else str(default)
    shown = ", ".join(map(str, default)) if isinstance(default, (list, tuple)) else getattr(default, "value", shown)
    variable = f" Also from the environment: `{option.envvar}`." if option.envvar else ""
    return f"| {names} | {f'`{_cell(str(shown))}`' if str(shown) else ''} | {_cell(option.help or '')}{variable} |"


def _cell(text: str) -> str:
    """A help text for a table; brackets in it are no links."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


WRITTEN = {
    "docs/reference/cli.md": cli_page,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/how-to/estimate.md": estimate_page,
    "docs/how-to/estimate.svg": estimate_picture,
    "docs/how-to/jetpack.md": jetpack_page,
    "docs/reference/sources-and-sinks.md": streams_page,
    "docs/reference/data.md": data_page,
    "docs/how-to/alarms.md": alarms_page,
}


def main() -> None:
    """Write the pages, or with ``--check`` end with 1 where one is old."""
    old = []
    for name, page in WRITTEN.items():
        path, text = ROOT / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if old and "--check" in sys.argv:
        sys.exit(f"old: {', '.join(old)}; run python docs/generate.py")


if __name__ == "__main__":
    main()
