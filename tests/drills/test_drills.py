"""The drills' own judgement: a judge that passes or fails everything would make every figure worthless."""

import json
import re
from functools import cache

import numpy as np
import pytest

from tests.docs import pages
from tests.drills.command import table
from tests.drills.judge import Episode, Tally, faulty, kinds, share_outside
from tests.drills.run import by_detect, in_process, records
from tests.drills.series import DRILLS, made, right
from tests.drills.shapes import Draw, Series

FAULTS = [name for name in DRILLS if not name.startswith("calm")]
CALM = [name for name in DRILLS if name.startswith("calm")]
INSTANCES = 3


@cache
def cases(name):
    return [made(name, 5, k) for k in range(INSTANCES)]


def judged(name, detector):
    """How many of the series of this kind a detector passes that is given each of them."""
    return sum(not faulty(case, detector(case)) for case in cases(name))


def never(case):
    return []


def always(case):
    return [Episode(i, i + 10, "value") for i in range(0, len(case), 20)]


def without_end(case):
    return [Episode(0, len(case) - 1, "value")]


def oracle(case, late=0, longer=0):
    """Tells each fault, at the last moment that is right and some points later."""
    found = []
    for fault in case.faults:
        opened = fault.found_by + late
        end = opened if fault.over_by is None else max(opened, fault.over_by)
        found.append(Episode(opened, end + longer, fault.metric or "value"))
    return found


@pytest.mark.parametrize("name", DRILLS)
def test_who_knows_the_faults_passes(name):
    assert judged(name, oracle) == INSTANCES


@pytest.mark.parametrize("name", FAULTS)
def test_who_never_alerts_fails_every_fault(name):
    assert judged(name, never) == 0


@pytest.mark.parametrize("name", CALM)
def test_who_never_alerts_passes_what_is_calm(name):
    assert not any(case.faults for case in cases(name)) and judged(name, never) == INSTANCES


@pytest.mark.parametrize("name", DRILLS)
@pytest.mark.parametrize("detector", [always, without_end])
def test_who_always_alerts_fails(name, detector):
    assert judged(name, detector) == 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_is_told_too_late_fails(name):
    assert judged(name, lambda case: oracle(case, late=1)) == 0


@pytest.mark.parametrize("name", [name for name in FAULTS if cases(name)[0].faults[0].over_by is not None])
def test_an_episode_that_is_open_for_too_long_fails(name):
    assert judged(name, lambda case: oracle(case, longer=1)) == 0


def test_an_episode_must_name_the_metric_last_and_not_be_told_in_parts():
    case = cases("one_of_six_sent_alone")[0]
    [episode] = oracle(case)
    [fault] = case.faults
    assert [why.split()[0] for why in faulty(case, [Episode(episode.opened, episode.last, "other")])] == ["names"]
    assert faulty(case, [Episode(episode.opened, fault.open_until - 1, fault.metric)])
    assert faulty(case, [episode] * 2) == [] != faulty(case, [episode] * 3)


def test_others_count_after_the_first_fifth():
    case = cases("calm_noise")[0]
    early = [Episode(i, i + 5, "value") for i in range(0, case.quiet_from - 10, 20)]
    later = [Episode(i, i + 5, "value") for i in range(case.quiet_from, len(case), 500)]
    assert faulty(case, early + later[: case.others]) == [] != faulty(case, later[: case.others + 1])


@pytest.mark.parametrize("name", DRILLS)
def test_a_seed_makes_the_same_finite_series_again(name):
    for k, case in enumerate(cases(name)):
        same, other = made(name, 5, k), made(name, 6, k)
        assert np.array_equal(case.time, same.time) and case.faults == same.faults
        assert all(np.array_equal(x, same.values[metric], equal_nan=True) for metric, x in case.values.items())
        different = [not np.array_equal(x, other.values[metric], equal_nan=True) for metric, x in case.values.items()]
        assert all(different) or name == "calm_constant"
        every = np.concatenate(list(case.values.values()))
        assert len(case) >= 200 and np.isfinite(case.time).all() and not np.isinf(every).any()
        assert np.isfinite(every).sum() == len(case) * (1 if case.one_by_one else len(case.values))
        assert all(case.quiet_from <= fault.first <= fault.found_by < len(case) for fault in case.faults)
        assert all((fault.over_by or 0) < len(case) for fault in case.faults)


@pytest.mark.parametrize("name", DRILLS)
def test_what_is_right_is_said_in_one_line_with_the_number_of_others(name):
    [said] = re.findall(r"(no|\d+) others?[ .]", right(name))
    assert {case.others for case in cases(name)} == {0 if said == "no" else int(said)}
    assert "\n" not in right(name)


def test_the_table_shows_every_kind():
    shown = pages.rows(pages.block("drills"))
    assert [(row["series"].strip("`"), row["what is right"]) for row in shown] == [
        (name, right(name)) for name in DRILLS
    ]
    assert pages.rows(table({"calm_noise": 3}, 4))[0]["passed"] == "3 of 4"


@pytest.mark.parametrize("name", ["calm_doubled_points", "one_metric_of_eight", "one_of_six_sent_alone"])
def test_points_are_written_as_they_arrive(name):
    case = cases(name)[0]
    points = [json.loads(line) for line in records("a", case)]
    assert [point["timestamp"] for point in points] == case.time.tolist()
    for metric, x in case.values.items():
        given = [
            point.get("values", {point.get("metric", "value"): point.get("value")}).get(metric) for point in points
        ]
        assert np.allclose(np.array(given, float), x, rtol=1e-8, equal_nan=True)


def test_what_episodes_say_about_themselves_is_counted():
    tally, result = Tally(), {"episode": "e1", "value": 9.0, "expected_lower": 1.0, "expected_upper": 5.0}
    tally.add("a", 3, result | {"kind": "value"})
    tally.add("a", 8, result | {"value": 2.0})
    tally.add("a", 20, result | {"episode": "e2", "kind": "value", "value": 2.0, "metric": "m2"})
    tally.add("b", 1, result | {"kind": "noise", "value": 2.0})
    vector = {"values": {"p": 9.0, "q": 9.0}, "expected_lower": {"p": 1.0, "q": 8.0}, "kind": "joint"}
    tally.add("c", 0, result | vector | {"expected_upper": {"p": 5.0, "q": 9.5}, "attribution": {"p": 0.2, "q": 0.9}})
    assert tally.episodes["a"] == [Episode(3, 8, "value", "value", True), Episode(20, 20, "m2", "value", False)]
    assert tally.episodes["c"] == [Episode(0, 0, "q", "joint", False)]
    every = [each for found in tally.episodes.values() for each in found]
    assert kinds(every) == {"value": 2, "noise": 1, "joint": 1} and share_outside(every) == 0.5
    assert share_outside([]) is None


def test_detect_reports_the_episode_at_the_point_of_the_fault(tmp_path):
    config = tmp_path / "zscore.yaml"
    config.write_text("detection: {method: zscore}")
    given = {}
    for place, source in enumerate(("a", "b")):
        x = np.sin(np.arange(400.0) * 1.7) + 0.1 * Draw(3, place).normal(400)
        x[300 + place] += 100.0
        given[source] = Series(x, 60.0, 0.0, 1.0).case(others=0).fault(300 + place, within=0, over=0)
    found = by_detect(given, config)
    assert {source: [(each.opened, each.last) for each in every] for source, every in found.items()} == {
        "a": [(300, 300)],
        "b": [(301, 301)],
    }
    assert not any(faulty(case, found[source]) for source, case in given.items())


def test_without_the_command_the_episodes_are_the_same():
    names = ["deploy_spikes", "one_metric_of_eight", "one_of_six_sent_alone", "calm_doubled_points", "calm_latency"]
    given = {name: cases(name)[0] for name in names}
    found = by_detect(given, None)
    assert len(found) >= 3 and in_process(given, None) == found
