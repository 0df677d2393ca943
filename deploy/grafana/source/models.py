"""Model Performance: what the detectors do, what they cost, and how often people agree."""

from deploy.grafana.source.panels import (
    GREEN,
    OPEN,
    RED,
    Json,
    dashboard,
    limit,
    lines,
    query,
    row,
    runbook,
    stat,
    steps,
    view,
)

UID = "faust-anomaly-models"
ANOMALY = ',verdict="anomaly"'


def build() -> Json:
    """The whole dashboard."""
    return dashboard(
        UID,
        "What the detectors do, what they cost, and how often people agree with them.",
        [
            row("Now", *summary()),
            row("Detectors", *detectors()),
            row("State", *state()),
        ],
    )


def verdicts(narrower: str = "") -> str:
    """Episodes with feedback: each alerter counts all of them."""
    return f"max by (verdict) (faust_anomaly_feedback_episodes{{${narrower}}})"


def per_point(stages: str) -> str:
    return (
        f'sum(rate(faust_anomaly_stage_duration_seconds_sum{{$,stage=~"{stages}"}}[$__rate_interval])) / '
        "sum(rate(faust_anomaly_results_delivered_total{$}[$__rate_interval]))"
    )


def summary() -> list[Json]:
    return [
        stat(
            "Points scored",
            "Results acknowledged each second, over all workers.",
            query("sum(rate(faust_anomaly_results_delivered_total{$}[$__rate_interval]))"),
            unit="cps",
        ),
        stat(
            "Time of a point",
            "CPU time to decode, score and encode one point, over all detectors. Normal with the default ones: 5 to "
            "20 us under load, more while batches are small.",
            query(per_point("decode|score|encode")),
            unit="s",
        ),
        stat(
            "Series",
            "Series in memory: sources, and metrics of them that come alone.",
            query("sum(faust_anomaly_sources_active{$})"),
            unit="short",
            links=[view("source", "Find a source in the view")],
        ),
        stat(
            "Warming up",
            "Share of the series of which all detectors are warming up: they open no episodes yet. Normal: 0, after "
            "new sources came or a change of detectors more.",
            query("sum(faust_anomaly_sources_warming_up{$}) / sum(faust_anomaly_sources_active{$})"),
            unit="percentunit",
        ),
        stat(
            "State of a series",
            "Memory of the state, divided by the series. Normal with the default detectors: 10 kB.",
            query("sum(faust_anomaly_state_bytes{$}) / sum(faust_anomaly_sources_active{$})"),
            unit="bytes",
        ),
        stat(
            "People agree",
            "Share of the episodes that people judged in the last 7 days which they called an anomaly. Normal: above "
            "a half; of fewer than 20 it says little. Say in the view what an episode was.",
            query(f"sum({verdicts(ANOMALY)}) / sum({verdicts()})"),
            unit="percentunit",
            links=[runbook("FaustAnomalyLowPrecision"), OPEN],
            thresholds=steps(RED, (limit("feedback_precision"), GREEN)),
        ),
    ]


def detectors() -> list[Json]:
    return [
        lines(
            "Points scored, by detector",
            "Points on which each detector gave its vote, each second. Normal: all alike. Fewer of one: it is "
            "warming up, or some profiles do not use it.",
            query("sum by (detector) (rate(faust_anomaly_points_scored_total{$}[$__rate_interval]))", "{{detector}}"),
            unit="cps",
            size=(12, 9),
        ),
        lines(
            "CPU time of a point",
            "Time to decode, score and encode one point. It falls with the load, as batches grow. score rises with "
            "each detector: docs/detection.md has the cost of each.",
            query(per_point("decode"), "decode"),
            query(per_point("score"), "score"),
            query(per_point("encode"), "encode"),
            unit="s",
            stacked=True,
            size=(12, 9),
        ),
        lines(
            "How busy each worker is",
            "Share of each worker's time that decode, score and encode take. Normal: below 0.7. Near 1: it cannot do "
            "more; add workers, up to the number of partitions.",
            query(
                "sum by (instance) (rate(faust_anomaly_stage_duration_seconds_sum"
                '{$,stage=~"decode|score|encode",component!="alerter"}[$__rate_interval]))',
                "{{instance}}",
            ),
            unit="percentunit",
            size=(8, 8),
            max=1,
        ),
        lines(
            "Drifts",
            "Changes for good in the scores of sources, in each interval.",
            query("sum(increase(faust_anomaly_drifts_total{$}[$__interval]))", "drifts"),
            unit="short",
            bars=True,
            interval="1m",
            size=(8, 8),
            links=[runbook("FaustAnomalyDriftWave")],
        ),
        lines(
            "What people said of episodes",
            "Episodes that people judged in the last 7 days, by what they said they were. Many not_useful: choose "
            "other detectors, or a higher threshold, for these sources.",
            query(verdicts(), "{{verdict}}"),
            unit="short",
            links=[runbook("FaustAnomalyLowPrecision"), OPEN],
        ),
    ]


def state() -> list[Json]:
    return [
        lines(
            "Series",
            "Series in memory, and those of them that are warming up. Growth without end: names of sources that are "
            "made up, as with times in them; state.max_sources limits them.",
            query("sum(faust_anomaly_sources_active{$})", "in memory"),
            query("sum(faust_anomaly_sources_warming_up{$})", "warming up"),
            unit="short",
        ),
        lines(
            "Series forgotten",
            "Series deleted after state.forget_after_records without a point, each second. Normal: as many as "
            "disappear for good. One that comes back warms up again.",
            query("sum(rate(faust_anomaly_sources_forgotten_total{$}[$__rate_interval]))", "forgotten"),
            unit="cps",
        ),
        lines(
            "Memory of the state",
            "Memory that the state of the series takes, of each worker. Infrastructure has that of the whole process.",
            query('faust_anomaly_state_bytes{$,component!="alerter"}', "{{instance}}"),
            unit="bytes",
            stacked=True,
        ),
    ]
