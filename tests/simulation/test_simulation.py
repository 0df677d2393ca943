"""The commit protocol under simulated schedules: 300 here, ``python -m tests.simulation --schedules 10000`` for more.

__main__.py says what is simulated. It also makes what it finds small, which may take minutes. What a search found in
this program stays here as one more broken worker (broken.py) with the schedule that shows it (pinned.py).
"""

from dataclasses import replace

import pytest
from simulation import broken, pinned
from simulation.broken import BROKEN
from simulation.schedule import Schedule, run
from simulation.search import Broken, search


def test_the_promises_hold_under_any_schedule():
    total = search(250, seeded=None, shrink=False)
    assert total["results"] > 5000
    assert total["letters"] > 200
    assert total["snapshots"] > 500
    assert total["crash"] > 100
    assert total["zombies"] > 30
    assert total["duplicates"] > 50
    assert min(total[what] for what in ("stop", "pause", "cut", "rebalance", "compact", "stall")) > 10


def test_retention_that_overtakes_the_replay_point_is_refused():
    refused = []
    total = search(50, seeded=None, shrink=False, overtaken=True, each=lambda outcome: refused.append(outcome.refused))
    said = [text for text in refused if text]
    assert total["retain"] > 20
    assert said
    assert all("deleted before they were" in text for text in said)


def test_a_schedule_is_played_again_turn_by_turn():
    schedule = pinned.FLAGGED["plain_source_keys"]
    first, second = run(schedule), run(schedule)
    assert first.counts == second.counts
    assert first.counts["turns"] > 100


@pytest.mark.parametrize("control", BROKEN, ids=lambda control: control.__name__)
def test_a_worker_with_one_rule_broken_is_flagged(control):
    """By what is there at the end alone, as in the crash tests."""
    kept = pinned.FLAGGED[control.__name__]
    assert run(kept, at_commits=False).faults == []
    with control():
        # Where the program has changed so that the schedule meets it at other steps, another one is looked for.
        if not run(kept, at_commits=False).faults:
            with pytest.raises(Broken) as found:
                search(1000, shrink=False, at_commits=False, overtaken=kept.overtaken)
            assert found.value.outcome.faults


def test_what_a_commit_says_too_early_is_flagged_at_once():
    """Before anything fails: the records alone, and one worker."""
    schedule = Schedule(bytes(range(60)), every_ms=200, acks=b"\x1d", snapshot_every=3)
    by_source = replace(schedule, rekey=True)
    assert run(schedule).faults == run(by_source).faults == []
    for control, played, words in (
        (broken.replay_from_the_acked_position, schedule, "is past the unsaved"),
        (broken.position_of_what_is_computed, schedule, "is past the unanswered"),
        (broken.snapshots_in_flight_do_not_hold, schedule, "is past the unsaved"),
        (broken.position_of_what_is_computed, by_source, "is past the unanswered"),
        (broken.position_of_what_is_read, by_source, "which is not there by source"),
    ):
        with control():
            assert any(words in fault for fault in run(played).faults)
