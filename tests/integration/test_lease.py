"""A worker that was stopped past its session, with records in hand, asks before it scores them."""

from pathlib import Path

import pytest
from integration.test_history import points, runs, start, until_answered  # noqa: F401 - runs is a fixture
from integration.workers import wait_for

pytestmark = pytest.mark.timeout(180)


def test_a_zombie_repeats_nothing_it_had_not_scored(runs):  # noqa: F811
    made = runs("stops_before_scoring", "stops_and_has_no_lease")
    repeated = {}
    for altered, run in made.items():
        start(run, altered)
    for run in made.values():
        run.workers[0].until_ready()
        for i in range(10):
            points(run, 20, first=20 * i)
        stat = Path(f"/proc/{run.workers[0].process.pid}/stat")
        wait_for(lambda stat=stat: stat.read_text().split()[2] == "T", 30.0, lambda run=run: run.workers[0].said)
        start(run)  # it gets the partitions when the session of the stopped one is over
    for altered, run in made.items():
        until_answered(run, 200)
        zombie, other = run.workers
        zombie.cont()
        wait_for(lambda zombie=zombie: zombie.said.count("ready: generation") == 2, 30.0, lambda z=zombie: z.said)
        run.until_saved()
        report = run.check()
        repeated[altered] = len(report.pop("results repeated", []))
        assert report.faults == {}  # what is repeated has the same bytes
        assert other.code is None
    assert repeated["stops_before_scoring"] == 0
    assert repeated["stops_and_has_no_lease"] > 0  # or this test would see nothing
