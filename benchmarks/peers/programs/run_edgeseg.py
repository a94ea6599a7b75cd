"""edgeseg's own engines, as ``edgeseg run`` uses them. Variants: GRAPH/ENGINE, or auto."""

from __future__ import annotations

from functools import partial

from turn import Job, Opened, main

import edgeseg
from edgeseg.bench.contenders import engine_contender
from edgeseg.bundle import read_bundle
from edgeseg.engines.select import engine_from_bundle
from edgeseg.timing import Stopwatch


def opened(job: Job) -> Opened:
    bundle = read_bundle(job.network / "bundle.edgeseg")
    if job.variant == "auto":
        engine = edgeseg.open_engine(bundle)
    else:
        graph, name = job.variant.split("/")
        engine = engine_from_bundle(bundle, graph, threads=job.threads, engine=name)
    segment = engine_contender(job.variant, engine, bundle.spec).segment
    engine.input[0], watch = job.frames()[0], Stopwatch()
    return Opened(partial(engine.infer, engine.input), lambda frame: segment(frame, watch), engine.description)


if __name__ == "__main__":
    main(lambda job: None, opened)
