"""A worker that was stopped past its session, with records in hand, asks before it scores them."""

from integration.test_history import points, runs, start, until_answered  # noqa: F401 - runs is a fixture
from integration.workers import wait_for


def test_a_zombie_repeats_nothing_it_had_not_scored(runs):  # noqa: F811
    made = runs("stops_before_scoring", "stops_and_has_no_lease")
    sent, repeated = dict.fromkeys(made, 0), {}
    for altered, run in made.items():
        start(run, altered)
    for altered, run in made.items():
        worker = run.workers[0].until_ready()
        while not worker.is_stopped:  # in its fifth batch; several of ours may be one of its
            assert sent[altered] < 2000, worker.said
            points(run, 20, first=sent[altered])
            sent[altered] += 20
        start(run)  # it gets the partitions when the session of the stopped one is over
    for altered, run in made.items():
        until_answered(run, sent[altered])
        zombie, other = run.workers
        zombie.cont()
        wait_for(lambda zombie=zombie: zombie.said.count("ready: generation") == 2, lambda z=zombie: z.said)
        run.until_saved()
        report = run.check()
        repeated[altered] = len(report.pop("results repeated", []))
        assert report.faults == {}  # what is repeated has the same bytes
        assert other.code is None
    assert repeated["stops_before_scoring"] == 0
    assert repeated["stops_and_has_no_lease"] > 0  # or this test would see nothing
