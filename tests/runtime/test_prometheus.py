from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import edgeseg.runtime.monitoring.prometheus as module
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.monitoring.prometheus import RunMetrics
from edgeseg.runtime.state import RunState, SinkState, SourceState

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed; pip install 'edgeseg[preview]'")
GRAFANA = Path(__file__).parents[2] / "jetson" / "grafana" / "edgeseg.json"


class _Alarms:
    def active(self) -> list[dict[str, Any]]:
        return [{"alarm": 'a "quoted" one', "source": "0"}, {"alarm": 'a "quoted" one', "source": "0"}]


@pytest.fixture
def state() -> RunState:
    state = RunState(ConfusionMatrix(3))
    for name, status in (("0", "streaming"), ("back\nyard", "stalled")):
        source = SourceState(name, "camera", status, produced=10, segmented=7, restarts=2, area={"road": 0.25})
        source.dropped = Counter({"busy": 3})
        source.watch.add("age", 5_000_000)
        state.sources[name] = source
    state.sinks += [SinkState("masks", written=7), SinkState("masks", status="failing", lost=Counter({"failed": 7}))]
    for ms in range(1, 101):
        state.watch.add("infer", ms * 1_000_000)
    return state


def _samples(metrics: RunMetrics) -> dict[str, dict[tuple[str, ...], float]]:
    """What Prometheus' own parser reads: name -> values of the labels, sorted by label -> value; no series twice."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            key = tuple(value for _, value in sorted(sample.labels.items()))
            assert key not in series, f"{sample.name}{sample.labels} comes twice"
            series[key] = sample.value
    return found


def test_values_come_from_the_state(state: RunState) -> None:
    metrics = RunMetrics(state, alarms=_Alarms())
    read = _samples(metrics)
    assert read["edgeseg_frames_total"] == {("0",): 7, ("back\nyard",): 7}
    assert read["edgeseg_frames_produced_total"][("0",)] == 10
    assert read["edgeseg_frames_dropped_total"][("busy", "0")] == 3
    assert read["edgeseg_frames_dropped_total"][("late", "0")] == 0
    assert read["edgeseg_source_up"] == {("0",): 1, ("back\nyard",): 0}
    assert read["edgeseg_source_restarts_total"][("0",)] == 2
    assert read["edgeseg_class_area_ratio"][("road", "0")] == 0.25
    assert read["edgeseg_frame_age_seconds"][("0.5", "0")] == 0.005
    assert read["edgeseg_stage_seconds"][("0.5", "infer")] == pytest.approx(0.0505)
    assert read["edgeseg_stage_seconds"][("1", "infer")] == 0.1
    assert read["edgeseg_sink_written_total"] == {("masks",): 7, ("masks (2)",): 0}
    assert read["edgeseg_sink_lost_total"] == {("failed", "masks (2)"): 7}
    assert read["edgeseg_sink_up"] == {("masks",): 1, ("masks (2)",): 0}
    assert read["edgeseg_alarm_active"] == {('a "quoted" one', "0"): 1}
    state.sources["0"].segmented = 8
    assert _samples(metrics)["edgeseg_frames_total"][("0",)] == 8


def test_names_follow_the_rules_and_are_documented(state: RunState) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(RunMetrics(state, alarms=_Alarms()).render().decode()))
    names = set()
    for family in families:
        assert re.fullmatch(r"edgeseg(_[a-z]+)+", family.name) and family.documentation.endswith(".")
        assert not re.search(r"_(ms|millis|percent|minutes)(_|$)", family.name), "base units only"
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert ("quantile" in sample.labels) == (family.type == "summary")
            names.add(sample.name)
    documented = dict(re.findall(r"\| ``(edgeseg_\w+)`` \| (\w+)", str(module.__doc__)))
    assert set(documented) == names
    assert all(documented[s.name] == family.type for family in families for s in family.samples)


def test_grafana_asks_only_for_what_there_is(state: RunState) -> None:
    exist = _samples(RunMetrics(state, alarms=_Alarms()))
    board = json.loads(GRAFANA.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [item["query"] for item in board["templating"]["list"]]
    used = {name for expression in asked for name in re.findall(r"edgeseg_\w+", expression)}
    assert used == set(exist), "every metric is on the board, and no other"
    for expression in asked:
        assert expression.count("{") == expression.count("}") and expression.count("(") == expression.count(")")
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_more_metrics_are_asked_at_every_scrape(state: RunState) -> None:
    from prometheus_client.core import GaugeMetricFamily

    agreement = [0.9, 0.8]
    more = lambda: [GaugeMetricFamily("edgeseg_shadow_agreement_ratio", "Agreement.", value=agreement.pop(0))]  # noqa: E731
    metrics = RunMetrics(state, extra=[more])
    assert [_samples(metrics)["edgeseg_shadow_agreement_ratio"][()] for _ in range(2)] == [0.9, 0.8]


def test_a_run_that_has_not_begun() -> None:
    read = _samples(RunMetrics(RunState(ConfusionMatrix(2))))
    assert read["edgeseg_paused"] == {(): 0} and set(read) == {"edgeseg_build_info", "edgeseg_paused"}
