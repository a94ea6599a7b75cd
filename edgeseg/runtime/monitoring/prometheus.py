"""A run as Prometheus sees it: read from the run's own state at every scrape, counted nowhere else.

Quantiles are over the latest 10,000 frames; quantile 1 is the maximum.

| metric | type | labels | what it is |
|---|---|---|---|
| ``edgeseg_build_info`` | gauge | version | always 1 |
| ``edgeseg_frames_total`` | counter | source | frames whose result was handed to the sinks |
| ``edgeseg_frames_produced_total`` | counter | source | frames that the source produced, dropped ones included |
| ``edgeseg_frames_dropped_total`` | counter | source, cause | frames that were not segmented |
| ``edgeseg_stage_seconds`` | summary | stage, quantile | time per frame; quantiles 0.5, 0.9, 0.99 and 1 |
| ``edgeseg_frame_age_seconds`` | summary | source, quantile | from capture to the sinks; same quantiles |
| ``edgeseg_class_area_ratio`` | gauge | source, class | share of the latest picture, 0-1 |
| ``edgeseg_source_up`` | gauge | source | 1 while it streams |
| ``edgeseg_source_restarts_total`` | counter | source | how often it was opened again |
| ``edgeseg_sink_written_total`` | counter | sink | results that it took |
| ``edgeseg_sink_lost_total`` | counter | sink, cause | results that it did not |
| ``edgeseg_sink_up`` | gauge | sink | 0 while its writes fail |
| ``edgeseg_alarm_active`` | gauge | alarm, source | 1 for every alarm that is on; absent while it is off |
| ``edgeseg_paused`` | gauge | | 1 while nothing is inferred |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Protocol, Sequence

from edgeseg import __version__
from edgeseg.errors import require
from edgeseg.runtime.state import DROP_CAUSES, RunState, SinkState
from edgeseg.timing import LatencySummary

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Collect", "RunMetrics"]

Collect = Callable[[], "Iterable[Metric]"]


class _Alarms(Protocol):
    def active(self) -> Sequence[Mapping[str, Any]]: ...


class RunMetrics:
    """A collector of prometheus-client over a run.

    Args:
        state: of the run.
        alarms: has ``active()``, each entry with ``alarm`` and ``source``.
        extra: called at every scrape, each for more metrics.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self, state: RunState, *, alarms: _Alarms | None = None, extra: Sequence[Collect] = ()) -> None:
        require("prometheus_client", "preview")
        from prometheus_client import CollectorRegistry

        self._state, self._alarms, self._extra = state, alarms, extra
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Render the text format of Prometheus, version 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: names are not known before the extra collectors are asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Collect all metrics, now."""
        from prometheus_client.core import GaugeMetricFamily

        build = GaugeMetricFamily("edgeseg_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("edgeseg_paused", "1 while nothing is inferred.", value=float(self._state.paused))
        yield from self._of_sources()
        yield self._stages()
        yield from self._of_sinks()
        if self._alarms is not None:
            yield _active(self._alarms)
        for collect in self._extra:
            yield from collect()

    def _of_sources(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        sources = list(self._state.sources.values())
        frames = CounterMetricFamily("edgeseg_frames", "Frames handed to the sinks.", labels=["source"])
        produced = CounterMetricFamily("edgeseg_frames_produced", "Frames that the source produced.", labels=["source"])
        dropped = CounterMetricFamily(
            "edgeseg_frames_dropped", "Frames that were not segmented.", labels=["source", "cause"]
        )
        up = GaugeMetricFamily("edgeseg_source_up", "1 while it streams.", labels=["source"])
        restarts = CounterMetricFamily("edgeseg_source_restarts", "How often it was opened again.", labels=["source"])
        area = GaugeMetricFamily("edgeseg_class_area_ratio", "Share of the latest picture.", labels=["source", "class"])
        for source in sources:
            frames.add_metric([source.name], source.segmented)
            produced.add_metric([source.name], source.produced)
            for cause in DROP_CAUSES:
                dropped.add_metric([source.name, cause], source.dropped[cause])
            up.add_metric([source.name], float(source.status == "streaming"))
            restarts.add_metric([source.name], source.restarts)
            for name, share in list(source.area.items()):
                area.add_metric([source.name, name], share)
        yield from (frames, produced, dropped, up, restarts, area)
        ages = ((source.name, source.watch.summaries().get("age")) for source in sources)
        yield _summary("edgeseg_frame_age_seconds", "From capture to the sinks.", "source", ages)

    def _stages(self) -> Metric:
        stages = self._state.latencies().items()
        return _summary("edgeseg_stage_seconds", "Time per frame and stage of the latest frames.", "stage", stages)

    def _of_sinks(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        written = CounterMetricFamily("edgeseg_sink_written", "Results that it took.", labels=["sink"])
        lost = CounterMetricFamily("edgeseg_sink_lost", "Results that it did not take.", labels=["sink", "cause"])
        up = GaugeMetricFamily("edgeseg_sink_up", "0 while its writes fail.", labels=["sink"])
        for name, sink in _named(list(self._state.sinks)):
            written.add_metric([name], sink.written)
            up.add_metric([name], float(sink.status != "failing"))
            for cause, count in list(sink.lost.items()):
                lost.add_metric([name, cause], count)
        yield from (written, lost, up)


def _named(sinks: Sequence[SinkState]) -> Iterator[tuple[str, SinkState]]:
    """Sinks by description; one that comes again gets a number, for Prometheus refuses two series of one name."""
    seen: dict[str, int] = {}
    for sink in sinks:
        count = seen[sink.description] = seen.get(sink.description, 0) + 1
        yield (sink.description if count == 1 else f"{sink.description} ({count})"), sink


def _summary(name: str, text: str, label: str, series: Iterable[tuple[str, LatencySummary | None]]) -> Metric:
    """A summary of quantiles alone: counts and sums over a window that moves are no counters."""
    from prometheus_client.core import Metric

    metric = Metric(name, text, "summary")
    for value, laps in series:
        if laps is not None:
            quantiles = (("0.5", laps.p50_ms), ("0.9", laps.p90_ms), ("0.99", laps.p99_ms), ("1", laps.max_ms))
            for quantile, ms in quantiles:
                metric.add_sample(name, {label: value, "quantile": quantile}, ms / 1e3)
    return metric


def _active(alarms: _Alarms) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    active = GaugeMetricFamily("edgeseg_alarm_active", "1 for every alarm that is on.", labels=["alarm", "source"])
    for name, source in sorted({(str(alarm["alarm"]), str(alarm["source"])) for alarm in alarms.active()}):
        active.add_metric([name, source], 1)
    return active
