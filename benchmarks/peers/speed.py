"""One network, the same frames, the same threads: edgeseg beside the engines that people would take instead.

    python benchmarks/peers/speed.py FOLDER [--turns 8] [--out README.md]

FOLDER (4 GB) keeps what is made once: an environment for every peer, from pinned requirements (``pip install uv``),
graphs, frames, and what each peer converts them to. It is made again where requirements change; delete ``networks``
after another edgeseg. This script runs in edgeseg's own environment, with the extras train, compile and openvino.

Then everyone takes turns, in another order each time, every turn in a process of its own: warm-up, then the graph alone
and end to end from a BGR frame at 512x512. Ratios are those of paired turns, intervals a bootstrap over turns. A
contender that cannot run says why. FOLDER/results.json has every call.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from contenders import ENTRANTS, REFERENCE, Entrant
from environments import HERE, Unavailable, last_line, python_of
from table import MODES, Row, against_eager, agreement, markdown, verdicts

from edgeseg import __version__
from edgeseg.device.detect import detected_device

DEFAULT, CLAIMED = "edge_unet", "unet"
_PREPARE_S, _TURN_S = 1800, 300


class Race:
    """The contenders of some networks in one folder.

    Args:
        options: of the command line.
        entrants: who takes part.

    Attributes:
        rows: network -> a row for each contender.
        turns: that everyone was offered.
    """

    def __init__(self, options: argparse.Namespace, entrants: list[Entrant]) -> None:
        self._options, self._folder = options, Path(options.folder).resolve()
        self.turns = 0
        self.rows = {network: [Row(entrant) for entrant in entrants] for network in options.networks}

    def prepare(self) -> None:
        """Make environments, graphs and what the contenders make of them."""
        from inputs import make_inputs

        for network in self.rows:
            _say(f"graphs and frames of {network}")
            make_inputs(network, self._folder / "networks" / network)
        for network, row in self._all():
            _say(f"{row.entrant.name}, {network}")
            try:
                self._call(row, network, "prepare", [], _PREPARE_S, once=True)
            except Unavailable as error:
                row.reason = str(error)

    def turn(self, order: random.Random) -> None:
        """Let everyone that can run take a turn."""
        self.turns += 1
        for network, row in order.sample(list(self._all()), len(list(self._all()))):
            if row.reason:
                continue
            options = self._options
            first = not row.laps["frame"]
            maps = str(self._made(row, network) / "maps.npy") if first else "-"
            clock = "cpu" if options.cpu_time else "wall"
            more = [str(one) for one in (options.warmup, options.seconds, options.calls, clock, maps)]
            try:
                found = json.loads(self._call(row, network, "turn", more, _TURN_S).splitlines()[-1])
            except Unavailable as error:
                row.reason = str(error)
                continue
            row.description = found["description"]
            for mode in MODES:
                row.laps[mode].append(found[mode])

    def compare_classes(self) -> None:
        """Count the pixels in which each agrees with our FP32 graph."""
        for network, rows in self.rows.items():
            expected = next((row for row in rows if row.entrant.name == REFERENCE and row.ran), None)
            for row in rows if expected is not None else ():
                if row.ran:
                    maps = [np.load(self._made(one, network) / "maps.npy") for one in (row, expected) if one]
                    row.agreement = agreement(*maps)

    def _all(self) -> Iterator[tuple[str, Row]]:
        return ((network, row) for network, rows in self.rows.items() for row in rows)

    def _made(self, row: Row, network: str) -> Path:
        entrant = row.entrant
        made = self._folder / "made" / network / f"{entrant.program}-{entrant.variant.replace('/', '-') or 'default'}"
        made.mkdir(parents=True, exist_ok=True)
        return made

    def _call(self, row: Row, network: str, what: str, more: list[str], limit_s: float, *, once: bool = False) -> str:
        """Run a contender's program and return what it prints. Raises Unavailable."""
        entrant, made = row.entrant, self._made(row, network)
        python = python_of(entrant.environment, self._folder / "environments")
        if once and (made / "prepared").is_file():
            return ""
        program = HERE / "programs" / f"run_{entrant.program}.py"
        given = [entrant.variant, str(self._folder / "networks" / network), str(made), str(self._options.threads)]
        try:
            done = subprocess.run(
                [str(python), str(program), what, *given, *more],
                capture_output=True,
                text=True,
                timeout=limit_s,
                cwd=made,
                env=self._surroundings(),
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{what} took more than {limit_s:.0f} s") from error
        if done.returncode:
            crashed = f"it crashed with signal {-done.returncode}" if done.returncode < 0 else "it says nothing"
            raise Unavailable(f"{what}: {last_line(done.stderr, crashed)}")
        if once:
            (made / "prepared").touch()
        return done.stdout

    def _surroundings(self) -> dict[str, str]:
        """Return the environment variables of a turn: as many threads for all, and caches in the folder."""
        cache = str(self._folder / "cache")
        found = {**os.environ, "OMP_NUM_THREADS": str(self._options.threads), "TORCHINDUCTOR_CACHE_DIR": cache}
        return {**found, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(HERE.parents[1])}


def page(race: Race, options: argparse.Namespace, load: tuple[float, ...], took_s: float) -> str:
    """Return the tables and what they say, as Markdown."""
    rows = race.rows
    clock = ", CPU time of the process" if options.cpu_time else ""
    lines = [
        f"edgeseg {__version__}, {detected_device().describe()}, {options.threads} threads, 512x512, "
        f"{race.turns} turns each in {took_s / 60:.0f} min{clock}. "
        f"Load before: {', '.join(f'{one:.2f}' for one in load)} (1, 5, 15 min)."
    ]
    for network, those in rows.items():
        lines += ["", f"### {network}", "", markdown(those)]
    lines += ["", *(f"- {line}" for network, those in rows.items() for line in verdicts(network, those))]
    if {DEFAULT, CLAIMED} <= set(rows):
        lines.append(f"- {against_eager(rows[DEFAULT], rows[CLAIMED])}")
    return "\n".join(lines)


def write_results(race: Race, folder: Path, options: argparse.Namespace) -> None:
    """Write every call of every contender to ``results.json``."""
    document: dict[str, Any] = {
        "edgeseg": __version__,
        "device": detected_device().to_json(),
        "options": {name: str(value) for name, value in vars(options).items()},
        "networks": {network: [row.to_json() for row in rows] for network, rows in race.rows.items()},
    }
    (folder / "results.json").write_text(json.dumps(document))


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    begin, end = "<!-- begin -->", "<!-- end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no {begin} and {end} between which a table could be put")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def chosen(only: list[str]) -> list[Entrant]:
    """Return the contenders whose names hold one of these words; all without words."""
    found = [one for one in ENTRANTS if not only or any(word.lower() in one.name.lower() for word in only)]
    unknown = [word for word in only if not any(word.lower() in one.name.lower() for one in ENTRANTS)]
    if unknown:
        raise SystemExit(f"no contender is called {unknown[0]!r}; there are {', '.join(one.name for one in ENTRANTS)}")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Prepare, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60.0, help="after so many no turns begin that were asked for")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each mode in a turn")
    parser.add_argument("--calls", type=int, default=3, help="at least so many of each mode in a turn")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds before each mode, and at least two calls")
    parser.add_argument("--cpu-time", action="store_true", help="of the process, for a busy machine: say --threads 1")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--networks", nargs="+", choices=(DEFAULT, CLAIMED), default=[DEFAULT, CLAIMED])
    parser.add_argument("--only", nargs="+", default=[], help="words of the contenders' names")
    parser.add_argument("--prepare", action="store_true", help="only make what is made once")
    parser.add_argument("--out", type=Path, help="page between whose marks the tables are put, besides printing them")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    race = Race(options, chosen(options.only))
    race.prepare()
    if options.prepare:
        for network, rows in race.rows.items():
            for row in rows:
                print(f"{network}, {row.entrant.name}: {f'cannot run: {row.reason}' if row.reason else 'ready'}")
        return
    load, began, order = os.getloadavg(), time.monotonic(), random.Random(0)
    for turn in range(options.turns):
        if time.monotonic() - began > 60 * options.minutes:
            break
        _say(f"turn {turn + 1} of {options.turns}, {time.monotonic() - began:.0f} s so far")
        race.turn(order)
        write_results(race, options.folder, options)
    race.compare_classes()
    write_results(race, options.folder, options)
    text = page(race, options, load, time.monotonic() - began)
    print(text)
    if options.out is not None:
        put_into(options.out, text)


if __name__ == "__main__":
    main()
