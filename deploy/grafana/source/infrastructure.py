"""Infrastructure: what the processes use, and how state is kept and found again."""

from deploy.grafana.source.panels import (
    GREEN,
    ORANGE,
    RED,
    SYSTEM,
    YELLOW,
    Json,
    colored,
    dashboard,
    limit,
    lines,
    now,
    query,
    row,
    runbook,
    stat,
    states,
    steps,
    table,
)

UID = "faust-anomaly-infrastructure"


def build() -> Json:
    """The whole dashboard."""
    return dashboard(
        UID,
        "What workers and alerters use of their machines, and how state is kept and found again.",
        [
            row("Processes", *processes()),
            row("Use", *use()),
            row("State, recovery, group", *recovery()),
            row("History and port", *history()),
        ],
    )


def processes() -> list[Json]:
    return [
        stat(
            "Processes up",
            "Workers and alerters that Prometheus reaches. Normal: as many as you run.",
            query("sum(up{$})"),
            unit="short",
            thresholds=steps(RED, (1, GREEN)),
            size=(3, 6),
            links=[runbook("FaustAnomalyDown"), runbook("FaustAnomalyWorkerDown")],
        ),
        stat(
            "CPU",
            "Cores in use, over all processes. One worker scores on one core.",
            query("sum(rate(process_cpu_seconds_total{$}[$__rate_interval]))"),
            unit="short",
            size=(3, 6),
        ),
        stat(
            "Memory",
            "Resident memory of the process that is nearest to what it can have, as a share of that. Normal: below "
            "0.9.",
            query("max(process_resident_memory_bytes{$} / faust_anomaly_memory_limit_bytes{$})"),
            unit="percentunit",
            size=(3, 6),
            thresholds=steps(GREEN, (limit("memory"), RED)),
            links=[runbook("FaustAnomalyMemoryNearLimit")],
        ),
        stat(
            "Open files",
            "Open files and connections of the process that is nearest to its limit, as a share of that.",
            query("max(process_open_fds{$} / process_max_fds{$})"),
            unit="percentunit",
            thresholds=steps(GREEN, (0.5, YELLOW), (0.8, RED)),
            size=(3, 6),
        ),
        table(
            "What runs",
            "Each process: its versions, its engine (numba or python), and since when it runs. Normal: one version, "
            "but during an upgrade; numba wherever it can be had.",
            [
                now(
                    "faust_anomaly_build_info{$} * on (job, instance) group_left (hash) faust_anomaly_settings_info{$} "
                    "* on (job, instance) group_left () "
                    "(time() - process_start_time_seconds{$})"
                )
            ],
            {
                "instance": "Process",
                "component": "Component",
                "version": "Version",
                "python": "Python",
                "engine": "Engine",
                "hash": "Settings",
                "Value": "Up for",
            },
            unit="s",
            size=(12, 6),
            links=[
                runbook("FaustAnomalyRestarts"),
                runbook("FaustAnomalyVersionsDiffer"),
                runbook("FaustAnomalySettingsDiffer"),
                SYSTEM,
            ],
        ),
    ]


def use() -> list[Json]:
    return [
        lines(
            "CPU of each process",
            "Cores in use. Normal: level with the load. A worker near 1 is at its limit.",
            query("rate(process_cpu_seconds_total{$}[$__rate_interval])", "{{instance}}"),
            unit="short",
            size=(8, 8),
        ),
        lines(
            "Memory of each process",
            "Resident memory. Normal: grows with the series, then level.",
            query("process_resident_memory_bytes{$}", "{{instance}}"),
            unit="bytes",
            size=(8, 8),
        ),
        lines(
            "Memory, of what there is",
            "Resident memory as a share of the least that the process can have: of its control groups and of the "
            "machine. At 1 the kernel kills it.",
            query("process_resident_memory_bytes{$} / faust_anomaly_memory_limit_bytes{$}", "{{instance}}"),
            unit="percentunit",
            size=(8, 8),
            max=1,
            thresholds=steps(GREEN, (limit("memory"), RED)),
            links=[runbook("FaustAnomalyMemoryNearLimit")],
        ),
        lines(
            "Open files",
            "Open files and connections. Normal: level. Rises without end: a fault of this program, please report it.",
            query("process_open_fds{$}", "{{instance}}"),
            unit="short",
            size=(12, 8),
        ),
        lines(
            "Collections of garbage",
            "Runs of Python's garbage collector, each second, by generation. Normal: those of generation 2, which "
            "look at everything, are rare.",
            query(
                "sum by (generation) (rate(python_gc_collections_total{$}[$__rate_interval]))",
                "generation {{generation}}",
            ),
            unit="cps",
            size=(12, 8),
        ),
    ]


def recovery() -> list[Json]:
    return [
        lines(
            "Snapshots",
            "Snapshots of series acknowledged in the changelog, each second. Normal: follows the load; none while no "
            "data come.",
            query("sum(rate(faust_anomaly_snapshots_total{$}[$__rate_interval]))", "snapshots"),
            unit="cps",
            size=(6, 8),
        ),
        lines(
            "Bytes of snapshots",
            "Traffic to the changelog before compression.",
            query("sum(rate(faust_anomaly_snapshot_bytes_total{$}[$__rate_interval]))", "snapshots"),
            unit="Bps",
            size=(6, 8),
        ),
        lines(
            "Records that a restart would replay",
            "Records since the replay point, the most of a partition. Normal: below state.replay_records (50,000).",
            query("max by (instance) (faust_anomaly_replay_backlog_records{$})", "{{instance}}"),
            unit="short",
            size=(6, 8),
            thresholds=steps(GREEN, (limit("replay_backlog_records"), RED)),
            links=[runbook("FaustAnomalyReplayBacklog")],
        ),
        lines(
            "Rebalances",
            "Rebalances of the group that each worker took part in. Normal: one for each start or stop of a worker. "
            "One after the other: workers that end and begin again, or a session that is too short.",
            query("sum by (instance) (increase(faust_anomaly_rebalances_total{$}[$__interval]))", "{{instance}}"),
            unit="short",
            bars=True,
            stacked=True,
            interval="1m",
            size=(6, 8),
            links=[runbook("FaustAnomalyRebalances")],
        ),
        lines(
            "Duration of the last recovery",
            "Seconds that the last recovery of each worker took. Normal: 33 s for a million sources.",
            query('faust_anomaly_recovery_seconds{$,component!="alerter"}', "{{instance}}"),
            unit="s",
            size=(12, 8),
        ),
        lines(
            "Recovered",
            "Snapshots read, and points computed again, in recoveries: since the start of each process.",
            query("sum(faust_anomaly_recovered_snapshots_total{$})", "snapshots"),
            query("sum(faust_anomaly_replayed_points_total{$})", "points computed again"),
            unit="short",
            size=(12, 8),
        ),
    ]


def history() -> list[Json]:
    return [
        states(
            "Database of the history",
            "Whether each process can use the database. Nothing but the history waits while it is down; what is "
            "missing is written later.",
            query("faust_anomaly_history_down{$}", "{{instance}}"),
            {"0": ("up", GREEN), "1": ("down", RED)},
            size=(6, 8),
            links=[runbook("FaustAnomalyHistoryDown"), SYSTEM],
        ),
        lines(
            "History behind",
            "Records of the topics that the history has not read yet. Normal: 0 except for seconds. One writes, "
            "the others say 0.",
            query("max(faust_anomaly_history_lag_records{$})", "behind"),
            query("sum(rate(faust_anomaly_history_records_total{$}[$__rate_interval]))", "written each second"),
            unit="short",
            size=(6, 8),
            thresholds=steps(GREEN, (limit("history_lag_records"), RED)),
            links=[runbook("FaustAnomalyHistoryBehind")],
        ),
        lines(
            "Space for the history",
            "Free space of the file system that has the history's file. Nothing where it is in PostgreSQL. Normal: "
            "more than 0.5 GB; an episode with two messages takes 1.5 kB.",
            query("faust_anomaly_history_free_bytes{$}", "{{instance}}"),
            unit="bytes",
            size=(6, 8),
            thresholds=steps(RED, (limit("history_free_bytes"), GREEN)),
            links=[runbook("FaustAnomalyHistoryDiskFull")],
        ),
        lines(
            "Certificates",
            "Time until the certificates in use expire: of the port (api), and for the brokers (kafka). Nothing where "
            "there are none. Normal: more than 14 days.",
            query("min by (of) (faust_anomaly_certificate_expiry_timestamp_seconds{$}) - time()", "{{of}}"),
            unit="s",
            size=(6, 8),
            thresholds=steps(RED, (limit("certificate_seconds"), GREEN)),
            links=[runbook("FaustAnomalyCertificateExpires"), runbook("FaustAnomalyCertificateEnds")],
        ),
        lines(
            "Requests refused",
            "Requests to the view and the API that were refused: 401 no valid token, 403 not allowed, 429 too many. "
            "Many 401: somebody guesses tokens, or one has run out.",
            query("sum by (status) (rate(faust_anomaly_refused_requests_total{$}[$__rate_interval]))", "{{status}}"),
            unit="cps",
            size=(12, 8),
            overrides=colored({"401": ORANGE, "403": YELLOW, "429": RED}),
            thresholds=steps(GREEN, (limit("refused_logins"), RED)),
            links=[runbook("FaustAnomalyRefusedLogins")],
        ),
        lines(
            "Connections cut",
            "Connections cut, since the start of each process: too many of all, too many of one address, or "
            "WebSockets that read too slowly. Normal: none.",
            query("sum by (of) (rate(faust_anomaly_cut_connections_total{$}[$__rate_interval]))", "{{of}}"),
            unit="cps",
            size=(12, 8),
        ),
    ]
