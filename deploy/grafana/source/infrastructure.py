"""Infrastructure: what the processes use, and how state is kept and found again."""

from deploy.grafana.source.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Json,
    colored,
    dashboard,
    dashed,
    lines,
    now,
    query,
    row,
    stat,
    states,
    steps,
    table,
    view,
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
            size=(4, 4),
        ),
        stat(
            "CPU",
            "Cores in use, over all processes. One worker scores on one core.",
            query("sum(rate(process_cpu_seconds_total{$}[$__rate_interval]))"),
            unit="short",
            size=(4, 4),
        ),
        stat(
            "Memory",
            "Resident memory of the process that is nearest to what it can have, as a share of that. Normal: below "
            "0.9.",
            query("max(process_resident_memory_bytes{$} / faust_anomaly_memory_limit_bytes{$})"),
            unit="percentunit",
            thresholds=steps(GREEN, (0.8, YELLOW), (0.9, RED)),
            size=(4, 4),
        ),
        table(
            "What runs",
            "Each process: its versions, its engine (numba or python), and since when it runs. Normal: one version, "
            "but during an upgrade; numba wherever it can be had.",
            [
                now("faust_anomaly_build_info{$} * on (job, instance) group_left (hash) faust_anomaly_settings_info{$} "
                    "* on (job, instance) group_left () "
                    "(time() - process_start_time_seconds{$})")
            ],
            {"instance": "Process", "component": "Component", "version": "Version", "python": "Python",
             "engine": "Engine",
                "hash": "Settings", "Value": "Up for"},
            unit="s",
            size=(12, 8),
            links=[view("system", "Page System of the view")],
        ),
    ]  # fmt: skip


def use() -> list[Json]:
    return [
        lines(
            "CPU of each process",
            "Cores in use. Normal: level with the load. A worker near 1 is at its limit.",
            query("rate(process_cpu_seconds_total{$}[$__rate_interval])", "{{instance}}"),
            unit="short",
            size=(6, 8),
        ),
        lines(
            "Memory of each process",
            "Resident memory, and the least that a process can have: of its control groups and of the machine. "
            "Normal: grows with the series, then level. At the limit the kernel kills the process.",
            query("process_resident_memory_bytes{$}", "{{instance}}"),
            query("min(faust_anomaly_memory_limit_bytes{$})", "limit"),
            unit="bytes",
            size=(6, 8),
            overrides=[dashed("limit")],
        ),
        lines(
            "Open files",
            "Open files and connections, and how many there may be. Normal: far below the limit and level.",
            query("process_open_fds{$}", "{{instance}}"),
            query("min(process_max_fds{$})", "limit"),
            unit="short",
            size=(6, 8),
            overrides=[dashed("limit")],
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
            size=(6, 8),
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
        ),
        lines(
            "Duration of the last recovery",
            "Seconds that the last recovery of each worker took. Normal: 33 s for a million sources.",
            query("faust_anomaly_recovery_seconds{$}", "{{instance}}"),
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
    system = view("system", "Page System of the view")
    return [
        states(
            "Database of the history",
            "Whether each process can use the database. Nothing but the history waits while it is down; what is "
            "missing is written later.",
            query("faust_anomaly_history_down{$}", "{{instance}}"),
            {"0": ("up", GREEN), "1": ("down", RED)},
            size=(6, 8),
            links=[system],
        ),
        lines(
            "History behind",
            "Records of the topics that the history does not hold yet. Normal: 0 but for seconds. One process writes, "
            "the others say 0.",
            query("max(faust_anomaly_history_lag_records{$})", "behind"),
            query("sum(rate(faust_anomaly_history_records_total{$}[$__rate_interval]))", "written each second"),
            unit="short",
            size=(6, 8),
        ),
        lines(
            "Space for the history",
            "Free space of the file system that has the history's file. Nothing where it is in PostgreSQL. Normal: "
            "more than 0.5 GB; an episode with two messages takes 1.5 kB.",
            query("faust_anomaly_history_free_bytes{$}", "{{instance}}"),
            unit="bytes",
            size=(6, 8),
        ),
        lines(
            "Certificates",
            "Time until the certificates in use expire: of the port (api), and for the brokers (kafka). Nothing where "
            "there are none. Normal: more than 14 days.",
            query("min by (of) (faust_anomaly_certificate_expiry_timestamp_seconds{$}) - time()", "{{of}}"),
            unit="s",
            size=(6, 8),
        ),
        lines(
            "Requests refused",
            "Requests to the view and the API that were refused: 401 no valid token, 403 not allowed, 429 too many. "
            "Many 401: somebody guesses tokens, or one has run out.",
            query("sum by (status) (rate(faust_anomaly_refused_requests_total{$}[$__rate_interval]))", "{{status}}"),
            unit="cps",
            size=(12, 8),
            overrides=colored({"401": ORANGE, "403": YELLOW, "429": RED}),
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
