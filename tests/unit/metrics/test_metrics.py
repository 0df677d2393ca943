import re
import shutil
import subprocess

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from app import metrics as module
from app.metrics import NOTIFICATION_STATES, PREFIX, BulkHistogram, Metrics
from app.settings import load
from tests.support.secured import Certificates


def filled() -> Metrics:
    """Metrics after some batches, every attribute touched."""
    metrics = Metrics(engine="python")
    for name, attribute in vars(metrics).items():
        if name.startswith("_") or name in ("registry", "documented"):
            continue
        for child in attribute.values() if isinstance(attribute, dict) else [attribute]:
            if isinstance(child, BulkHistogram):
                child.observe_many([0.002, 0.2, 400.0])
            elif hasattr(child, "observe"):
                child.observe(0.02)
            else:
                child.inc(3)
    metrics.invalid({"invalid_json": 2, "not_finite": 1})
    metrics.scored({"moving_average": 400, 'odd "name"\n': 400})
    metrics.opened({"critical": 1})
    metrics.lag(partition=3, consumed=90, end=100)
    metrics.replay_backlog(partition=3, records=17)
    metrics._certificate_end.labels("api").set(1.8e9)
    metrics._settings.labels("ea5c5374").set(1)
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    text = metrics.render()[0].decode()
    return {
        sample.name + (str(sorted(sample.labels.items())) if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("make", [Metrics, filled])
def test_promtool_finds_nothing_to_criticise(make):
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    done = subprocess.run([promtool, "check", "metrics"], input=make().render()[0], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_flags_a_bad_name():
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    page = b"# HELP latency_milliseconds x\n# TYPE latency_milliseconds gauge\nlatency_milliseconds 1\n"
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True)
    assert done.returncode != 0 and b"latency_milliseconds" in done.stderr


@pytest.mark.parametrize("metric", Metrics().documented, ids=lambda metric: metric.name)
def test_every_metric_has_prefix_help_unit_and_the_suffix_of_its_kind(metric):
    assert re.fullmatch(PREFIX + r"[a-z]+(_[a-z]+)*", metric.name)
    assert metric.help[0].isupper() and metric.help.endswith(".")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.kind == "histogram":
        assert metric.name.endswith(("_seconds", "_records"))
    assert not re.search(r"_(milliseconds|ms|minutes|kilobytes|kib|percent)(_|$)", metric.name)
    assert "source" not in metric.labels, "one series per source would be without bound"


def test_the_page_shows_what_is_documented_and_nothing_else():
    text = filled().render()[0].decode()
    shown = set(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    documented = {(metric.name, metric.kind) for metric in Metrics().documented}
    assert {(name, kind) for name, kind in shown if name.startswith(PREFIX)} == documented
    assert all(name.startswith((PREFIX, "process_", "python_gc_")) for name, _ in shown)
    assert "_created" not in text
    assert b"_created" not in filled().render("application/openmetrics-text; version=1.0.0")[0]


def test_counts_of_a_batch_arrive_on_the_page():
    shown = samples(filled())
    assert shown[PREFIX + "invalid_total[('reason', 'invalid_json')]"] == 2
    assert shown[PREFIX + "anomalies_total[('severity', 'critical')]"] == 1
    assert shown[PREFIX + "anomalies_total[('severity', 'low')]"] == 0
    assert shown[PREFIX + "lag_records[('partition', '3')]"] == 10
    assert shown[PREFIX + "replay_backlog_records[('partition', '3')]"] == 17


def test_totals_sum_over_labels():
    metrics = filled()
    metrics.lag(partition=4, consumed=0, end=5)
    assert metrics.total("lag_records", "invalid_total", "rebalances_total") == {
        "lag_records": 15,
        "invalid_total": 3,
        "rebalances_total": 3,
    }
    assert Metrics().total("lag_records") == {"lag_records": 0}


def test_a_lost_partition_leaves_no_gauge_behind():
    metrics = filled()
    metrics.forget([3, 4])  # 4 never had a gauge: revoked before its first batch
    assert not [name for name in samples(metrics) if "('partition'," in name]


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_content_type_is_what_was_asked_for(accept):
    page, content_type = filled().render(accept)
    expected = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
    assert content_type.startswith(expected)
    assert page.endswith(b"# EOF\n") == ("openmetrics" in accept)


def test_a_bulk_histogram_counts_as_prometheus_own_histogram():
    buckets = (0.001, 0.01, 0.1, 1.0)
    values = np.abs(np.random.default_rng(7).normal(0.0, 0.2, size=3_000))
    values[:4] = buckets  # a bucket holds its upper bound
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "X.", buckets, ours)
    single = Histogram("x_seconds", "X.", buckets=buckets, registry=theirs)
    for batch in np.array_split(values, 7):
        bulk.observe_many(batch)
    bulk.observe_many([])
    for value in values:
        single.observe(value)
    for name, labels in [("x_seconds_count", {}), *(("x_seconds_bucket", {"le": str(b)}) for b in buckets)]:
        assert ours.get_sample_value(name, labels) == theirs.get_sample_value(name, labels)
    assert ours.get_sample_value("x_seconds_sum") == pytest.approx(theirs.get_sample_value("x_seconds_sum"))


def test_a_clock_ahead_of_ours_never_makes_the_sum_fall():
    registry = CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "X.", (1.0,), registry)
    bulk.observe_many([-5.0, 0.5])
    assert registry.get_sample_value("x_seconds_sum") == 0.5
    assert registry.get_sample_value("x_seconds_count") == 2


def test_settings_that_workers_share_have_one_hash_and_others_another():
    def hashed(**settings):
        [name] = [name for name in samples(Metrics.of(load(environ={}, **settings))) if "settings_info" in name]
        return name

    one = hashed()
    assert hashed(dashboard={"port": 9000}, kafka={"group_instance_id": "a"}) == one
    assert len({one, hashed(detection={"threshold": 0.9}), hashed(sources=[{"match": "a", "method": "ewma"}])}) == 3


def test_messages_of_a_channel_count_from_zero():
    """A first value of 1 is no increase to Prometheus."""
    metrics = Metrics()
    metrics.channels(["chat"])
    metrics.notification("chat", "sent")
    counted = {name: value for name, value in samples(metrics).items() if "notifications_total" in name}
    assert sorted(counted.values()) == [0, 0, 1] and len(counted) == len(NOTIFICATION_STATES)


def test_a_certificate_shows_its_end_and_one_that_is_gone_shows_none(tmp_path):
    authority = Certificates(tmp_path)
    metrics = Metrics.of(load(environ={}, kafka={"ssl_certfile": str(authority.sign("one", end="20300101000000Z"))}))
    name = PREFIX + "certificate_expiry_timestamp_seconds[('of', 'kafka')]"
    assert samples(metrics)[name] == 1893456000.0
    metrics.certificate("kafka", tmp_path / "none.pem")
    metrics.certificate("api", tmp_path / "one.key")  # has no certificate
    assert not [name for name in samples(metrics) if "certificate" in name]


def test_two_workers_in_one_process_do_not_share_counts():
    one, other = Metrics(), Metrics()
    one.records_consumed.inc(5)
    assert samples(other)[PREFIX + "records_consumed_total"] == 0


def test_the_table_has_a_row_for_each_metric():
    assert len(module.table().splitlines()) == 2 + len(Metrics().documented)
