"""Pipeline Overview: is it healthy, and where does it stand still."""

from deploy.grafana.source.panels import (
    GREEN,
    ORANGE,
    RED,
    SYSTEM,
    YELLOW,
    Json,
    colored,
    dashboard,
    dashed,
    limit,
    lines,
    now,
    query,
    row,
    runbook,
    stat,
    states,
    steps,
)

UID = "faust-anomaly-pipeline"
P99 = "histogram_quantile({}, sum by (le) (rate(faust_anomaly_{}_bucket{{$}}[$__rate_interval])))"


def quantiles(histogram: str, *which: float) -> list[Json]:
    """Targets for some quantiles of a histogram, over all processes."""
    return [query(P99.format(q, histogram), f"p{100 * q:g}") for q in which]


def build() -> Json:
    """The whole dashboard."""
    return dashboard(
        UID,
        "Whether points are scored as fast as they come, and where they wait if not.",
        [
            row("Is it healthy?", *healthy()),
            row("Records", *records()),
            row("Workers", *workers()),
            row("Batches", *batches()),
            row("Sorted by source (input.rekey)", *rekeyed(), collapsed=True),
        ],
    )


def healthy() -> list[Json]:
    return [
        stat(
            "Ready",
            "Workers and alerters whose /readyz answers 200, of those that Prometheus knows. Normal: all. Readiness "
            "below shows which are not; their /readyz says what they wait for.",
            query("sum(faust_anomaly_ready{$}) / count(up{$})"),
            unit="percentunit",
            thresholds=steps(RED, (0.01, ORANGE), (1, GREEN)),
            links=[runbook("FaustAnomalyNotReady"), runbook("FaustAnomalyDown"), SYSTEM],
        ),
        stat(
            "Alerts firing",
            "Alerts of deploy/prometheus that fire now. Normal: 0. The red marks in all charts say which, and since "
            "when.",
            query('count(ALERTS{alertname=~"FaustAnomaly.+",alertstate="firing"}) or vector(0)'),
            unit="short",
            thresholds=steps(GREEN, (1, RED)),
        ),
        stat(
            "Records that wait",
            "Records in Kafka that are not consumed yet, over all partitions. Normal: what comes in within a second; "
            "after a pause more, and falling.",
            query("sum(faust_anomaly_lag_records{$})"),
            unit="short",
            links=[runbook("FaustAnomalyLagGrows"), runbook("FaustAnomalyNoResults"), SYSTEM],
        ),
        stat(
            "Latency, 99 of 100",
            "From Kafka's time of a record until its result is acknowledged. Normal: below 0.1 s; higher while a "
            "backlog is worked off.",
            query(P99.format(0.99, "end_to_end_latency_seconds")),
            unit="s",
            thresholds=steps(GREEN, (1, YELLOW), (limit("latency_seconds"), RED)),
            links=[runbook("FaustAnomalyLatencyHigh")],
        ),
        stat(
            "Dead letters",
            "Records and points of the time shown that could not be read and were written to the dead letters. Normal: "
            "none. The page System says of each reason what mends it.",
            now("sum(increase(faust_anomaly_invalid_total{$}[$__range]))"),
            unit="short",
            decimals=0,
            thresholds=steps(GREEN, (1, ORANGE)),
            links=[runbook("FaustAnomalyDeadLetters"), SYSTEM],
        ),
        stat(
            "Without a worker",
            "Partitions of the input that no worker has. Normal: 0, except for some seconds "
            "after a worker came or went. Their records are not scored, and they show no lag.",
            query("max(faust_anomaly_partitions{$}) - sum(faust_anomaly_assigned_partitions{$})"),
            unit="short",
            thresholds=steps(GREEN, (1, RED)),
            links=[runbook("FaustAnomalyPartitionsWithoutWorker"), SYSTEM],
        ),
    ]


def records() -> list[Json]:
    return [
        lines(
            "Records in, results out",
            "Records consumed and results acknowledged, each second. Normal: both alike, where a record holds one "
            "point. Records without results: look at dead letters and skipped, then at the log.",
            query("sum(rate(faust_anomaly_records_consumed_total{$}[$__rate_interval]))", "records in"),
            query("sum(rate(faust_anomaly_results_delivered_total{$}[$__rate_interval]))", "results out"),
            unit="cps",
            links=[runbook("FaustAnomalyNoResults"), runbook("FaustAnomalyNoInput")],
        ),
        lines(
            "Lag by partition",
            "Records of each partition that are not consumed yet. Normal: near 0 and level. All grow: too few "
            "workers, or Kafka is slow. One grows: one source sends most, or its worker hangs.",
            query("sum by (partition) (faust_anomaly_lag_records{$})", "partition {{partition}}"),
            unit="short",
            links=[
                runbook("FaustAnomalyLagGrows"),
                runbook("FaustAnomalyCatchUpSlow"),
                SYSTEM,
            ],
        ),
        lines(
            "Latency",
            "From Kafka's time of a record until its result is acknowledged: half of the records, 90 and 99 of 100. "
            "Quantiles are as exact as the histogram's buckets.",
            *quantiles("end_to_end_latency_seconds", 0.5, 0.9, 0.99),
            unit="s",
            thresholds=steps(GREEN, (limit("latency_seconds"), RED)),
            links=[runbook("FaustAnomalyLatencyHigh")],
        ),
        lines(
            "Dead letters by reason",
            "Records and points that could not be read, each second. Normal: none. They are in the topic of dead "
            "letters, with the reason and where they came from.",
            query("sum by (reason) (rate(faust_anomaly_invalid_total{$}[$__rate_interval]))", "{{reason}}"),
            unit="cps",
            stacked=True,
            links=[runbook("FaustAnomalyDeadLetters"), SYSTEM],
        ),
        lines(
            "Skipped by intention",
            "Records and elements without a point that are no mistake: tombstones, and what input settings pass over.",
            query("sum by (reason) (rate(faust_anomaly_skipped_total{$}[$__rate_interval]))", "{{reason}}"),
            unit="cps",
            stacked=True,
        ),
        lines(
            "Age of the newest point",
            "Current time minus the newest event time of each process' last batch. Normal: as old as your data come. "
            "It grows while no data come, and is large where old data are replayed.",
            query('faust_anomaly_event_time_lag_seconds{$,component!="alerter"}', "{{instance}}"),
            unit="s",
            thresholds=steps(GREEN, (limit("event_time_lag_seconds"), RED)),
            links=[runbook("FaustAnomalyEventTimeLag")],
        ),
    ]


def workers() -> list[Json]:
    return [
        states(
            "Readiness",
            "Whether each process is ready: a worker is in its group, has its state, and the group takes its commits; "
            "an alerter sends notifications. Normal: not ready for some seconds after a start or a rebalance.",
            query("faust_anomaly_ready{$}", "{{instance}}"),
            {"1": ("ready", GREEN), "0": ("not ready", ORANGE)},
            size=(12, 7),
            links=[
                runbook("FaustAnomalyWorkerNotReady"),
                runbook("FaustAnomalyWorkerDown"),
                SYSTEM,
            ],
        ),
        lines(
            "Partitions of each worker",
            "Input partitions that each process has, and how many there are. Normal: shared out evenly, and level. A "
            "sum below what there is: a rebalance, or a worker that recovers.",
            query("faust_anomaly_assigned_partitions{$} > 0", "{{instance}}"),
            query("max(faust_anomaly_partitions{$})", "there are"),
            unit="short",
            size=(12, 7),
            overrides=[dashed("there are")],
            links=[runbook("FaustAnomalyPartitionsWithoutWorker"), SYSTEM],
        ),
    ]


def batches() -> list[Json]:
    return [
        lines(
            "Records in a batch",
            "A worker joins what waits in a partition to one batch. Normal: few, and more under load; the largest "
            "are seen while a backlog is worked off.",
            *quantiles("batch_size_records", 0.5, 0.99),
            unit="short",
        ),
        lines(
            "Time of a batch",
            "From its start to the acknowledgement of its results. Much more than scoring takes (next panel): brokers "
            "acknowledge slowly.",
            *quantiles("batch_duration_seconds", 0.5, 0.99),
            unit="s",
        ),
        lines(
            "Where the time goes",
            "Seconds of each stage in a second, over all workers. decode, score and encode use the CPU: one worker "
            "has one second a second for them. results_ack, snapshot_ack and commit wait for brokers, several at a "
            "time.",
            query("sum by (stage) (rate(faust_anomaly_stage_duration_seconds_sum{$}[$__rate_interval]))", "{{stage}}"),
            unit="s",
            stacked=True,
        ),
        lines(
            "Commits",
            "Offset commits each second, by outcome. Normal: one a second of each worker that has work, all accepted. "
            "refused: a rebalance; failed: the group's broker does not answer.",
            query("sum by (outcome) (rate(faust_anomaly_commits_total{$}[$__rate_interval]))", "{{outcome}}"),
            unit="cps",
            size=(12, 8),
            overrides=colored({"accepted": GREEN, "refused": ORANGE, "failed": RED}),
            links=[runbook("FaustAnomalyCommitsFail")],
        ),
        lines(
            "Results that were there before",
            "Results not sent again after a restart, because the output topic has them. Normal: some after a restart, "
            "else none.",
            query("sum(rate(faust_anomaly_results_suppressed_total{$}[$__rate_interval]))", "suppressed"),
            unit="cps",
            size=(12, 8),
        ),
    ]


def rekeyed() -> list[Json]:
    return [
        lines(
            "Sorted by source",
            "With input.rekey: records written to the topic by source, and those dropped because they were there "
            "before a restart.",
            query("sum(rate(faust_anomaly_rekeyed_records_total{$}[$__rate_interval]))", "sorted"),
            query("sum(rate(faust_anomaly_rekeyed_duplicates_total{$}[$__rate_interval]))", "dropped"),
            unit="cps",
        ),
        lines(
            "Lag before the sorting",
            "Records of the input topic that are not yet in the topic by source. The lag above is that of the topic by "
            "source then.",
            query("sum by (partition) (faust_anomaly_rekey_lag_records{$})", "partition {{partition}}"),
            unit="short",
        ),
        lines(
            "Partitions that each worker sorts",
            "Partitions of the input topic that each process has, and how many there are.",
            query("faust_anomaly_assigned_rekey_partitions{$} > 0", "{{instance}}"),
            query("max(faust_anomaly_rekey_partitions{$})", "there are"),
            unit="short",
            overrides=[dashed("there are")],
        ),
    ]
