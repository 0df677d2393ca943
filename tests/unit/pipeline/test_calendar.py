"""Local time and holidays, through the whole pipeline."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from support.points import Pipeline, batches, columns, points, states

from app.settings import Detection, DetectorSettings, HolidaySettings, SourceOverride
from app.state import snapshot

BERLIN = ZoneInfo("Europe/Berlin")
MINUTES = 15
CHANGES = {"spring": datetime(2026, 3, 29, 2), "autumn": datetime(2026, 10, 25, 3)}  # local, Sundays


def office(begin, weeks, seed=5, off=()):
    """Local times, and values that are high from 8 to 18 on weekdays but for the days ``off``."""
    rng = np.random.default_rng(seed)
    times = [begin + timedelta(minutes=MINUTES * i) for i in range(weeks * 7 * 24 * 60 // MINUTES)]
    works = [t.weekday() < 5 and 8 <= t.hour < 18 and t.date() not in off for t in times]
    return times, [(100.0 if work else 20.0) + e for work, e in zip(works, rng.uniform(-1.0, 1.0, len(times)).tolist())]


@cache
def across(change):
    """The office before and after a change of the clock: (times in UTC, times as if the clock had no zone, values).

    The hour that spring leaves out has no points, that which autumn repeats has none the second time.
    """
    begin = CHANGES[change].replace(hour=0) - timedelta(days=41)
    times, values = office(begin, 8)
    exist = [t.replace(tzinfo=BERLIN).astimezone(UTC).astimezone(BERLIN).replace(tzinfo=None) == t for t in times]
    kept = [(t, v) for t, v, there in zip(times, values, exist) if there]
    assert len(times) - len(kept) == (60 // MINUTES if change == "spring" else 0)
    utc = [t.replace(tzinfo=BERLIN).timestamp() for t, _ in kept]
    wall = [t.replace(tzinfo=UTC).timestamp() for t, _ in kept]
    return utc, wall, [v for _, v in kept]


def seasonal(**given):
    members = {"seasonal": DetectorSettings(method="seasonal", season_hours=168)}
    return Detection(method="ensemble", detectors=members, **given)


def judged(detection, times, values, engine="python"):
    pipeline = Pipeline(detection, engine=engine)
    made = points(values)
    made.timestamp = list(times)
    return pipeline.run(pipeline.sources(), made)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_clock_is_no_anomaly_in_local_time(change):
    utc, wall, values = across(change)
    local = judged(seasonal(timezone="Europe/Berlin"), utc, values)
    unchanged = judged(seasonal(), wall, values)
    for column in ("score", "expected", "lower", "upper", "anomaly"):
        assert getattr(local, column).tobytes() == getattr(unchanged, column).tobytes(), column
    assert not local.opened[len(values) // 2 :].any()


@pytest.mark.parametrize("change", CHANGES)
def test_in_utc_it_is_one(change):
    """The negative control."""
    utc, _, values = across(change)
    assert judged(seasonal(), utc, values).opened[len(values) // 2 :].any()


def test_nor_is_it_one_by_default_detectors():
    utc, wall, values = across("spring")
    local = judged(Detection(timezone="Europe/Berlin"), utc, values, "numba")
    unchanged = judged(Detection(), wall, values, "numba")
    assert local.opened.tolist() == unchanged.opened.tolist()
    assert np.abs(local.score - unchanged.score).max() < 0.01  # the interval between points differs once


def test_a_holiday_is_judged_as_a_sunday():
    holiday = datetime(2025, 10, 3)  # a Friday; the last one was four months ago
    times, values = office(holiday - timedelta(days=45), 8, off=(holiday.date(),))
    utc = [t.replace(tzinfo=BERLIN).timestamp() for t in times]
    day = np.array([t.date() == holiday.date() and 8 <= t.hour < 18 for t in times])
    known = judged(seasonal(timezone="Europe/Berlin", holidays=HolidaySettings(country="DE")), utc, values)
    unknown = judged(seasonal(timezone="Europe/Berlin"), utc, values)
    assert known.score[day].max() < 0.8 and not known.anomaly[day].any()
    assert unknown.score[day].min() >= 0.8 and unknown.anomaly[day].all()


LOCAL = {"timezone": "Europe/Berlin", "holidays": HolidaySettings(country="DE", region="BY")}


@pytest.mark.parametrize("method", ["auto", "seasonal"])
def test_engines_batches_and_restarts_give_the_same_bits(method):
    utc, _, values = across("spring")
    given = Detection(**LOCAL) if method == "auto" else seasonal(**LOCAL)
    first = len(values) - 3000
    made = points(values[first:], ["a", "b", "c"] * 1000)
    made.timestamp = utc[first:]
    found = []
    for engine in ("numba", "python"):
        pipeline = Pipeline(given, engine=engine)
        whole, parts = pipeline.sources(), pipeline.sources()
        once = columns([pipeline.run(whole, made)])
        outcomes = []
        for part in batches(made, [7, 8, 1100, 2000]):
            outcomes.append(pipeline.run(parts, part))
            for data in states(parts).values():
                snapshot.loads(parts, data)
        assert columns(outcomes) == once and states(parts) == states(whole)
        found.append((once, states(whole)))
    assert found[0] == found[1]


def test_sources_may_live_in_different_zones():
    utc, _, values = across("spring")
    twice = points([v for v in values for _ in range(2)], ["berlin", "utc"] * len(values))
    twice.timestamp = [t for t in utc for _ in range(2)]
    pipeline = Pipeline(seasonal(), [SourceOverride(match="berlin", timezone="Europe/Berlin")], engine="python")
    found = pipeline.run(pipeline.sources(), twice)
    assert found.score[::2].tolist() == judged(seasonal(timezone="Europe/Berlin"), utc, values).score.tolist()
    assert found.score[1::2].tolist() == judged(seasonal(), utc, values).score.tolist()


PLACES = [("DE", None), ("DE", "BY"), ("FR", None)]


def test_the_calendar_is_part_of_the_config_hash_where_it_is_not_as_by_default():
    def hashed(**given):
        return Pipeline(Detection(**given), engine="python").profiles[0].config_hash

    assert hashed() == hashed(timezone="UTC", holidays=HolidaySettings())
    holidays = [HolidaySettings(country=country, region=region) for country, region in PLACES]
    others = [{"timezone": "Europe/Berlin"}, {"timezone": "Etc/UTC"}, *({"holidays": each} for each in holidays)]
    assert len({hashed(), *(hashed(**each) for each in others)}) == 6


@pytest.mark.parametrize("changed", [{"timezone": "Europe/Berlin"}, {"holidays": HolidaySettings(country="DE")}])
def test_another_calendar_resets_the_detectors_that_use_it_and_no_others(changed):
    made = replace(points([float(i % 7) for i in range(300)]))
    old, new = Pipeline(Detection(), engine="python"), Pipeline(Detection(**changed), engine="python")
    before, after = old.sources(), new.sources()
    old.run(before, made)
    snapshot.loads(after, snapshot.dumps(before, 0, 299))
    seasonal_ones = {m.section for m in new.profiles[0].members if m.is_seasonal}
    assert set(after.reset_sections) == seasonal_ones and 0 < len(seasonal_ones) < len(new.profiles[0].members)
