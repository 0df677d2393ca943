"""Sizes: what must hold whatever was measured, and that the file with what was measured can be relied on."""

import json
from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from app.cli import main
from app.errors import ConfigurationError
from app.sizing import measured, shown
from app.sizing.model import EPISODES_PER_1000, Need, between, size
from tests.docs import pages, sizing

NEED = Need(records_per_s=20_000, series=50_000)
GROWS = ("workers", "memory of a worker", "written to brokers", "read from brokers", "disk of all brokers", "episodes")


def sized(need: Need, detectors: str = "default"):
    return size(need, sizing.model(detectors))


@pytest.mark.parametrize(
    "more",
    [
        {"records_per_s": 60_000},
        {"series": 500_000},
        {"peak_per_s": 100_000},
        {"copies": 5},
        {"raw_days": 30.0},
        {"headroom": 0.9},
        {"view": True},
        {"record_bytes": 800.0},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_never_needs_less(more):
    few = replace(NEED, partitions=64)  # with more of them there are fewer snapshots
    few, many = sized(few), sized(replace(few, **more))
    for name in GROWS:
        if name != "memory of a worker" or few["workers"] == many["workers"]:
            assert many[name] >= few[name], name
    assert any(many[name] > few[name] for name in GROWS)


def test_faster_cores_and_packed_records_need_less():
    assert (
        sized(replace(NEED, speed=4.0, records_per_s=200_000))["workers"]
        < sized(replace(NEED, records_per_s=200_000))["workers"]
    )
    packed = sized(replace(NEED, producer_codec="zstd"))
    assert packed["topic raw-data"] < 0.5 * sized(NEED)["topic raw-data"]


def test_heavy_detectors_need_more_than_light_ones():
    light, default, heavy = (sized(replace(NEED, records_per_s=2000), name) for name in ("window", "default", "heavy"))
    for name in ("capacity of a worker", "memory of a series"):
        order = [light[name], default[name], heavy[name]]
        assert sorted(order, reverse=name.startswith("capacity")) == order


def test_the_workers_are_as_free_as_asked_and_one_less_is_not():
    for headroom in (0.0, 0.4, 0.8):
        found = sized(replace(NEED, records_per_s=300_000, headroom=headroom))
        assert found["load at the peak"] <= 1.0 - headroom
        assert found["partitions"] % found["workers"] == 0 and found["partitions"] >= 2 * found["workers"]
        fewer = replace(NEED, records_per_s=300_000, headroom=headroom, partitions=int(found["workers"]) - 1)
        with pytest.raises(ConfigurationError, match="more partitions, or less headroom"):
            sized(fewer)


def test_figures_fit_each_other():
    found = sized(replace(NEED, peak_per_s=40_000))
    raw = NEED.records_per_s * found["record in raw-data"] * 86_400 * 7 / 1e9
    assert found["topic raw-data"] == pytest.approx(raw)
    assert found["load at the peak"] == pytest.approx(2 * found["load"])
    assert found["between brokers"] == pytest.approx(2 * found["written to brokers"])
    outage, load = found["back after a crash"], found["load"]
    assert found["caught up after a crash"] == pytest.approx(outage * load / (1 - load))
    assert found["memory limit of a worker"] > found["memory of a worker"]


def test_what_was_not_measured_is_said():
    assert sized(replace(NEED, series=50_000_000, records_per_s=1000)).warnings
    assert any("metrics of a record" in line for line in sized_with_metrics(64).warnings)
    assert any("few series" in line for line in sized(replace(NEED, series=3)).warnings)
    assert not sized(replace(NEED, records_per_s=5000, series=5000)).warnings


def sized_with_metrics(metrics: int):
    model = sizing.model("default")
    return size(replace(NEED, metrics=metrics), replace(model, foot=replace(model.foot, metrics=metrics)))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"records_per_s": 0.0}, "--records-per-s must be above 0, got 0"),
        ({"series": 0}, "--series must be 1 or more, got 0"),
        ({"peak_per_s": 10.0}, "--peak-records-per-s must be at least 20000, got 10"),
        ({"headroom": 1.0}, "--headroom must be at least 0 and below 1, got 1"),
        ({"records_per_s": float("nan")}, "--records-per-s must be above 0, got nan"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ConfigurationError, match=said):
        sized(replace(NEED, **wrong))


def test_a_detector_whose_cost_nobody_knows_is_refused():
    model = sizing.model("default")
    unknown = replace(model, foot=replace(model.foot, methods={"river": 1}))
    with pytest.raises(ConfigurationError, match="'river'"):
        size(NEED, unknown)


def test_bytes_of_a_batch_in_between_are_in_between():
    known = {1: 400.0, 10: 100.0, 100: 60.0}
    assert [between(known, n) for n in (0.1, 1, 10, 1000)] == [400.0, 400.0, 100.0, 60.0]
    assert 60.0 < between(known, 30) < 100.0


def test_what_was_measured_is_of_every_detector_and_sound():
    of = measured.load()
    from app import detectors

    assert {*of.kernels_us, *of.adapters} == {*detectors.names()} - {"river"}
    assert of.cpu.record_us > 0 and of.cpu.batch_cores > 0 and 1.0 <= of.cpu.usable_cores < 2.0
    assert len(of.checks) > 5 and all(check.measured > 0 for check in of.checks)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(of), "more": 1}, measured.Measured)


def test_episodes_are_as_many_as_the_page_of_detection_says():
    [default] = [row for row in pages.rows(pages.block("detection")) if row["detector"] == "default"]
    assert float(default["false alerts per 1000"]) == EPISODES_PER_1000


def test_the_command_says_what_the_table_says(monkeypatch):
    monkeypatch.setenv("ANOMALY_CONFIG", "")
    per_s, series, _ = sizing.NEEDS[2]
    argv = ["size", "--records-per-s", str(per_s), "--series", str(series), "--no-view"]
    found = json.loads(CliRunner().invoke(main, [*argv, "--json"]).output)
    row = pages.rows(pages.block("sizing"))[2]
    for head, names in sizing.COLUMNS.items():
        given = [found["figures"][name] for name in names]
        assert row[head] == ", ".join(shown.value(one["value"], one["unit"]) for one in given)
    text = CliRunner().invoke(main, argv)
    assert text.exit_code == 0 and row["partitions"] in text.output and "memory: " in text.output
    wrong = CliRunner().invoke(main, [*argv, "--headroom", "2"])
    assert wrong.exit_code == 2 and "--headroom must be" in wrong.output
