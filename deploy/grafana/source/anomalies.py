"""Anomaly Analysis: what was found, and which notifications were sent."""

from deploy.grafana.source.panels import (
    GREEN,
    OPEN,
    ORANGE,
    RED,
    SEVERITY,
    SYSTEM,
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
)
from deploy.grafana.source.pipeline import quantiles

UID = "faust-anomaly-anomalies"
SHARE = (
    "sum(rate(faust_anomaly_anomalous_points_total{$}[$__rate_interval])) / "
    "sum(rate(faust_anomaly_results_delivered_total{$}[$__rate_interval]))"
)


def build() -> Json:
    """The whole dashboard."""
    return dashboard(
        UID,
        "Episodes by severity, the share of anomalous points, delays of notifications. What is open, of which source "
        "and why, is in the view: metrics have no label for each source.",
        [
            row("In the time shown", *summary()),
            row("Episodes", *episodes()),
            row("Notifications", *notifications()),
        ],
    )


def summary() -> list[Json]:
    return [
        stat(
            "Open episodes",
            "Open episodes that a rule takes, as alerters count them.",
            query("sum(faust_anomaly_episodes_open{$})"),
            unit="short",
            links=[OPEN],
        ),
        stat(
            "Episodes opened",
            "Episodes that opened in the time shown, of all severities.",
            now("sum(increase(faust_anomaly_anomalies_total{$}[$__range]))"),
            unit="short",
            decimals=0,
            links=[OPEN],
        ),
        stat(
            "Of them critical",
            "Episodes that were critical when they opened. Normal: none, or the faults that you know of.",
            now('sum(increase(faust_anomaly_anomalies_total{$,severity="critical"}[$__range]))'),
            unit="short",
            decimals=0,
            thresholds=steps(GREEN, (1, RED)),
            links=[OPEN],
        ),
        stat(
            "Anomalous points",
            "Share of all points that were inside an episode. Normal: below 1 in 100. Much more: one fault that all "
            "sources share, or data that changed for good.",
            query(SHARE),
            unit="percentunit",
            links=[runbook("FaustAnomalyAnomalyRateHigh"), OPEN],
            thresholds=steps(GREEN, (limit("anomalous_points"), RED)),
        ),
        stat(
            "Messages sent",
            "Messages that channels accepted in the time shown. One message may have several episodes.",
            now('sum(increase(faust_anomaly_notifications_total{$,state="sent"}[$__range]))'),
            unit="short",
            decimals=0,
        ),
        stat(
            "Messages given up",
            "Messages that a channel refused, or did not take in time. Normal: none.",
            now('sum(increase(faust_anomaly_notifications_total{$,state="failed"}[$__range]))'),
            unit="short",
            decimals=0,
            thresholds=steps(GREEN, (1, RED)),
            links=[runbook("FaustAnomalyMessagesGivenUp"), SYSTEM],
        ),
    ]


def episodes() -> list[Json]:
    return [
        lines(
            "Episodes opened, by severity",
            "Episodes that opened in each interval, by their severity then. Many at once: look for what the sources "
            "have in common.",
            query("sum by (severity) (increase(faust_anomaly_anomalies_total{$}[$__interval]))", "{{severity}}"),
            unit="short",
            bars=True,
            stacked=True,
            interval="1m",
            size=(12, 9),
            overrides=colored(SEVERITY),
            links=[OPEN],
        ),
        lines(
            "Open episodes",
            "Open episodes that a rule takes. Normal: rises and falls. It only rises: episodes that "
            "never close, because data changed for good, or their sources stopped.",
            query("sum by (instance) (faust_anomaly_episodes_open{$})", "{{instance}}"),
            unit="short",
            size=(12, 9),
            stacked=True,
            links=[OPEN],
        ),
        lines(
            "Share of anomalous points",
            "Points inside episodes, of all points that were scored.",
            query(SHARE, "anomalous"),
            unit="percentunit",
            size=(8, 8),
            thresholds=steps(GREEN, (limit("anomalous_points"), RED)),
            links=[runbook("FaustAnomalyAnomalyRateHigh")],
        ),
        lines(
            "Episodes of 1000 points",
            "Episodes opened for each 1000 points scored. Normal with the default settings: below 1 on quiet data. "
            "Higher for days: raise detection.threshold, or choose detectors for these sources.",
            query(
                "1000 * sum(rate(faust_anomaly_anomalies_total{$}[$__rate_interval])) / "
                "sum(rate(faust_anomaly_results_delivered_total{$}[$__rate_interval]))",
                "episodes",
            ),
            unit="short",
            size=(8, 8),
        ),
        lines(
            "Drifts",
            "Changes for good in the scores of sources, found by detection.drift. Many at once: their data changed.",
            query("sum(increase(faust_anomaly_drifts_total{$}[$__interval]))", "drifts"),
            unit="short",
            bars=True,
            interval="1m",
            size=(8, 8),
            links=[runbook("FaustAnomalyDriftWave")],
        ),
    ]


def notifications() -> list[Json]:
    return [
        lines(
            "Messages by channel",
            "What became of messages: sent, failed (given up), muted (by a silence or a rule).",
            query(
                "sum by (channel, state) (increase(faust_anomaly_notifications_total{$}[$__interval]))",
                "{{channel}}: {{state}}",
            ),
            unit="short",
            bars=True,
            stacked=True,
            interval="1m",
            links=[SYSTEM],
        ),
        states(
            "Channels",
            "Whether each channel took its last message. Normal: up, all the time. down: the page System has the "
            "answer of the other side; messages are tried again, and then given up.",
            query("min by (channel) (faust_anomaly_channel_up{$})", "{{channel}}"),
            {"1": ("up", GREEN), "0": ("down", RED)},
            links=[runbook("FaustAnomalyChannelDown"), runbook("FaustAnomalyAllChannelsDown"), SYSTEM],
        ),
        lines(
            "Time until a notification is sent",
            "From the newest point of a message until the channel accepted it. Normal: group_wait and some "
            "seconds. Old data that are replayed count with their age.",
            *quantiles("notification_delay_seconds", 0.5, 0.9),
            unit="s",
        ),
        lines(
            "What alerters have not read",
            "Events of episodes that each alerter has not read yet, of its partitions. Normal: 0.",
            query("faust_anomaly_alerter_lag_records{$}", "{{instance}}"),
            unit="short",
            size=(6, 8),
            thresholds=steps(GREEN, (limit("alerter_lag_records"), RED)),
            links=[runbook("FaustAnomalyAlerterBehind")],
        ),
        lines(
            "Partitions of each alerter",
            "Partitions of the topic of anomalies that each alerter has. Normal: all, evenly shared. None: "
            "no notifications are sent.",
            query("faust_anomaly_alerter_assigned_partitions{$} > 0", "{{instance}}"),
            unit="short",
            size=(6, 8),
            links=[runbook("FaustAnomalyNobodyTells")],
        ),
        lines(
            "Silent series",
            "Series that send nothing any more, though they usually would. Normal: 0. Many at once: what collects or "
            "sends them has stopped.",
            query("sum(faust_anomaly_silent_series{$})", "silent"),
            unit="short",
            size=(6, 8),
            links=[OPEN],
        ),
        lines(
            "Trouble of alerters",
            "Records of the topics that the alerter skipped, and its restarts after an error. Normal: none of either.",
            query("sum(increase(faust_anomaly_alerter_skipped_total{$}[$__interval]))", "skipped"),
            query("sum(increase(faust_anomaly_alerter_restarts_total{$}[$__interval]))", "restarts"),
            unit="short",
            size=(6, 8),
            bars=True,
            interval="1m",
            overrides=colored({"skipped": ORANGE, "restarts": RED}),
            links=[runbook("FaustAnomalyAlerterRestarts")],
        ),
    ]
