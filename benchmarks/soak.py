"""Half an hour of four sources through one batched engine: does anything grow?

    python benchmarks/soak.py --minutes 30 > benchmarks/soak.md

Two live GStreamer cameras, one more that is encoded and decoded as H.264, and GStreamer's RTSP server with a password
share an engine of batch 4; results go to JSON lines and to nowhere. Every five seconds resident memory, open
descriptors, threads and children are read from /proc. Private memory must not grow; the memory that is shared with the
GStreamer processes is 24 frames a camera at most, of which those are resident that were ever in use at the same time.
The first two minutes warm up. The slope comes with a 95 % interval from a block bootstrap (blocks of one minute, since
neighbouring samples are alike); /proc counts whole pages, so that a slope of one page in the whole time is the smallest
that can be told from none. Exit code 1 when a promise is broken.

``demo://street`` is not among the sources: what draws it allocates small arrays of ever new sizes, of which NumPy keeps
seven each and CPython 2,000 freed tuples, so that its memory comes to rest only after hours and some MiB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from edgeseg.bundle import read_bundle
from edgeseg.device.detect import detected_device
from edgeseg.engines.select import engine_from_bundle
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.loop.pipeline import Run
from edgeseg.runtime.sinks.uri import SinkContext, sink_from_uri
from edgeseg.runtime.sources import source_from_uri

CAMERA = Path(__file__).resolve().parents[1] / "tests" / "system" / "rtsp_camera.py"
EVERY_S = 5.0
WARM_UP_S = 120.0
SHARED_MIB = 24 * 3 * (1280 * 720 + 640 * 480 + 640 * 360 + 480 * 360) / 2**20
CODED = (
    "gst://videotestsrc is-live=true pattern=smpte ! video/x-raw,width=480,height=360,framerate=5/1 ! "
    "x264enc tune=zerolatency key-int-max=15 ! h264parse ! avdec_h264"
)
LIVE = "gst://videotestsrc is-live=true pattern=ball ! video/x-raw,width={},height={},framerate={}/1"


def sampled(stop: threading.Event, rows: np.ndarray) -> None:
    """Fill rows (N, 6): seconds, private MiB, shared MiB, descriptors, threads, children; NaN where no sample came."""
    started = time.monotonic()
    for row in rows:
        if stop.wait(EVERY_S):
            return
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        children = [
            child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
        ]
        row[:] = (
            time.monotonic() - started,
            int(status["RssAnon"].split()[0]) / 1024,
            int(status["RssShmem"].split()[0]) / 1024,
            len(os.listdir("/proc/self/fd")),
            int(status["Threads"]),
            len(children),
        )


def slope_per_hour(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Least-squares slope per hour and its 95 % interval by a block bootstrap of the residuals."""
    rng = np.random.default_rng(0)
    slope, offset = np.polyfit(seconds, values, 1)
    residuals = values - slope * seconds - offset
    block = max(1, int(60 / EVERY_S))
    blocks = max(1, len(values) // block)
    slopes = []
    for _ in range(2000):
        starts = rng.integers(0, max(1, len(values) - block), blocks + 1)
        noise = np.concatenate([residuals[start : start + block] for start in starts])[: len(values)]
        slopes.append(np.polyfit(seconds[: len(noise)], (slope * seconds + offset)[: len(noise)] + noise, 1)[0])
    low, high = np.percentile(slopes, (2.5, 97.5))
    return slope * 3600, low * 3600, high * 3600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--bundle", type=Path, required=True, help="of batch 4: edgeseg compile --int8 --batch 4")
    parser.add_argument("--port", default="18560")
    wanted = parser.parse_args()
    bundle = read_bundle(wanted.bundle)
    server = subprocess.Popen(
        ["/usr/bin/python3", str(CAMERA), wanted.port, "h264", "640x360"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    # Taken before the first sample: at most 60 frames per second and source, and what measures must not grow itself.
    taken = np.full((int(wanted.minutes * 60 * 240) + 1000, 3), 0.0, np.float32)
    rows = np.full((int(wanted.minutes * 60 / EVERY_S) + 10, 6), np.nan)
    stop = threading.Event()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, engine_from_bundle(bundle, None) as engine:
        if len(engine.input) != 4:
            raise SystemExit(f"{wanted.bundle} has batch {len(engine.input)}, not 4")

        def on_frame(state, result):  # type: ignore[no-untyped-def]
            now = time.monotonic() - started
            age_ms = (time.perf_counter_ns() - result.frame.captured_ns) / 1e6
            taken[state.frames - 1] = now, age_ms, sum(result.laps_ms.values())
            if now > 60 * wanted.minutes:
                running.stop("time is up")

        running = Run(engine, bundle.spec, on_frame=on_frame)
        running.state.on_event = lambda event: print(f"{event.level}: {event.who}: {event.text}", file=sys.stderr)
        for uri in (
            LIVE.format(1280, 720, 5),
            LIVE.format(640, 480, 10),
            f"rtsp://anna:s3cret%20word@127.0.0.1:{wanted.port}/main",
            CODED,
        ):
            running.add(source_from_uri(uri))
        context = SinkContext(bundle.spec, Painter(bundle.spec), running.state, by_source=True)
        for uri in (f"jsonl://{folder}/frames.jsonl", "null://"):
            running.add_sink(sink_from_uri(uri, context))
        sampler = threading.Thread(target=sampled, args=(stop, rows), daemon=True)
        sampler.start()
        state = running.run()
        stop.set()
        sampler.join()
        lines = Path(folder, "frames.jsonl").read_bytes().count(b"\n")
    server.kill()
    taken = taken[: state.frames]
    return report(wanted, state, rows[~np.isnan(rows[:, 0])], taken[:, :2], taken[:, ::2], lines)


def report(wanted, state, rows, ages, loops, lines) -> int:  # type: ignore[no-untyped-def]
    end = loops[-1, 0]
    warm = min(WARM_UP_S, end / 4)
    steady = rows[rows[:, 0] > warm]
    slope, low, high = slope_per_hour(steady[:, 0], steady[:, 1])
    page = os.sysconf("SC_PAGE_SIZE") / 2**20 / (end - warm) * 3600
    quarters = [loops[(loops[:, 0] > warm) & (loops[:, 0] >= a) & (loops[:, 0] < b), 1] for a, b in spans(warm, end)]
    p99 = [float(np.percentile(quarter, 99)) for quarter in quarters]
    age = [float(np.percentile(ages[(ages[:, 0] >= a) & (ages[:, 0] < b), 1], 99)) for a, b in spans(warm, end)]
    grown = [int(np.median(steady[-12:, column]) - np.median(steady[:12, column])) for column in (3, 4, 5)]
    accounted = all(s.produced == s.segmented + sum(s.dropped.values()) for s in state.sources.values())
    checks = {
        f"private memory's slope is zero, give or take its interval and one page ({page:.3f} MiB/h)": (
            low - page <= 0 <= high + page
        ),
        f"shared memory at most {SHARED_MIB:.0f} MiB": float(rows[:, 2].max()) <= SHARED_MIB,
        "no more descriptors, threads or children at the end": all(count <= 0 for count in grown),
        "p99 of the last quarter within 10 % of the first": p99[-1] <= 1.1 * p99[0],
        "every frame that came was segmented or dropped for a cause": accounted,
        "a JSON line for every result": lines == state.frames - sum(state.sinks[0].lost.values()),
    }
    print(f"# Soak: {end / 60:.0f} minutes, four sources, one engine of batch 4\n")
    print(
        f"Device: {detected_device().describe()}. Command: `python benchmarks/soak.py --minutes {wanted.minutes:g}`.\n"
    )
    print(f"- {state.frames} frames segmented of {state.produced} that came; dropped {state.dropped}")
    print(
        f"- resident private memory {steady[0, 1]:.2f} -> {steady[-1, 1]:.2f} MiB; slope {slope:+.3f} MiB/h "
        f"(95 %: {low:+.3f} to {high:+.3f}); shared frames {steady[0, 2]:.1f} -> {steady[-1, 2]:.1f} MiB"
    )
    print(f"- descriptors, threads, children, end minus begin: {grown}")
    print(f"- p99 of the loop, ms/frame, by quarter: {', '.join(f'{value:.1f}' for value in p99)}")
    print(f"- p99 of the frame age, ms, by quarter: {', '.join(f'{value:.1f}' for value in age)}\n")
    for source in state.sources.values():
        print(
            f"- source {source.name}: {source.produced} came, {source.segmented} segmented, {source.restarts} restarts"
        )
    print()
    for promise, kept in checks.items():
        print(f"- {'kept' if kept else 'BROKEN'}: {promise}")
    return 0 if all(checks.values()) else 1


def spans(begin: float, end: float) -> list[tuple[float, float]]:
    """Four equal spans of time."""
    edges = np.linspace(begin, end, 5)
    return list(zip(edges[:-1], edges[1:]))


if __name__ == "__main__":
    sys.exit(main())
