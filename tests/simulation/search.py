"""Hypothesis looks for a schedule that breaks a promise."""

from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from simulation.schedule import Outcome, Schedule, run, schedules


class Broken(AssertionError):
    """A schedule under which a promise does not hold; its text plays it again."""

    def __init__(self, schedule: Schedule, outcome: Outcome) -> None:
        text = "\n  ".join(outcome.faults + [f"refused: {outcome.refused}"] * bool(outcome.refused))
        again = f"from simulation.schedule import *; print(run({schedule!r}))"
        super().__init__(f"{text}\nPlay it again, with PYTHONPATH=.:tests:\n{again}")
        self.schedule, self.outcome = schedule, outcome


def search(
    count: int,
    seeded: int | None = 0,
    shrink: bool = True,
    overtaken: bool = False,
    at_commits: bool = True,
    each: Callable[[Outcome], None] = lambda outcome: None,
) -> Counter[str]:
    """Play so many schedules; what happened in all of them.

    Parameters
    ----------
    count
        How many are drawn.
    seeded
        The same number draws the same ones; None draws others each time.
    shrink
        Go on, when one is found, until a small one is.
    overtaken, at_commits
        See ``schedules`` and ``run``.
    each
        Told every outcome.

    Raises
    ------
    Broken
        A promise does not hold.
    """
    total: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules(overtaken))
    def play(schedule: Schedule) -> None:
        outcome = run(schedule, at_commits)
        total.update(outcome.counts)
        total["schedules"] += 1
        each(outcome)
        if outcome.faults:
            raise Broken(schedule, outcome)

    (seed(seeded)(play) if seeded is not None else play)()
    return total
