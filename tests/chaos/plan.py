"""Which faults a campaign injects, and when: counted beforehand, shuffled by a seed, dealt out to rounds.

A round is a job of its own: fresh topics, some workers, a load, its share of the faults, and the checker at its end.
Rounds bound what the checker must hold in memory. Every second round has no fault that may repeat a result, so a
repeated one there is a failure and needs no explanation.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from app.stream import failpoints

ROUND_RECORDS = 250_000
MAY_REPEAT = ("zombies", "cuts")  # a worker is beyond its session while something of it is on its way
KINDS = {
    "kills": "kill -9",
    "failpoints": "kill -9 at a failpoint",
    "rekeys": "kill -9 at a failpoint in the hop of input.rekey",
    "zombies": "SIGSTOP past the session, SIGCONT",
    "pauses": "SIGSTOP of .5 s",
    "terms": "SIGTERM and a new start",
    "members": "a worker joins or leaves",
    "brokers": "kill -9 of the broker",
    "disks": "the broker's disk full",
    "cuts": "network drop, delay or half-open",
}
NAMES = {"failpoints": failpoints.NAMES, "rekeys": failpoints.OF_REKEY}

# What scores, over the settings of tests/integration/run.py: rounds of one number of partitions meet all of them. State
# of every make is among it: compiled, River's own, refitted by scikit-learn in another thread, and let go by a drift.
DETECTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"drift": {"method": "ADWIN", "reset": True}},
    {
        "detectors": {
            "residual": {},
            "moving_average": {},
            "HalfSpaceTrees": {"window_size": 50},
            "one_class_svm": {"window_size": 100, "refit_every": 100},
            "GaussianScorer": {},
        }
    },
)


@dataclass
class Round:
    """``faults``: in order, a kind of KINDS each, those of NAMES with the name of a failpoint after a colon."""

    number: int
    records: int
    faults: list[str] = field(default_factory=list)

    @property
    def may_repeat(self) -> bool:
        return self.number % 2 == 1

    @property
    def compacts(self) -> bool:
        """The cleaner works on the changelog all the time."""
        return self.number % 2 == 1

    @property
    def partitions(self) -> int:
        return 12 if self.number % 4 in (1, 2) else 4

    @property
    def rekeys(self) -> bool:
        """Records have no keys, and are sorted by source in a hop of their own."""
        return self.number % 4 in (2, 3)

    @property
    def detection(self) -> dict[str, Any]:
        return DETECTIONS[self.number % len(DETECTIONS)]


def rounds(counts: dict[str, int], records: int, seed: int, round_records: int = ROUND_RECORDS) -> list[Round]:
    """The rounds in which so many faults of each kind, and at least so many records, come about."""
    rng = random.Random(seed)
    size = max(4 if counts.get("rekeys") else 2, 2 * math.ceil(records / round_records / 2))
    dealt = [Round(number, math.ceil(records / size)) for number in range(size)]
    for kind, count in counts.items():
        fit = [each for each in dealt if each.may_repeat or kind not in MAY_REPEAT]
        if kind == "rekeys":
            fit = [each for each in dealt if each.rekeys]
        names = list(islice(cycle(NAMES.get(kind, failpoints.NAMES)), count))
        rng.shuffle(names)
        for i, name in enumerate(names):
            fit[i % len(fit)].faults.append(f"{kind}:{name}" if kind in NAMES else kind)
    for each in dealt:
        rng.shuffle(each.faults)
    return dealt


def kinds(faults: list[str]) -> Counter[str]:
    """How many of each kind."""
    return Counter(fault.partition(":")[0] for fault in faults)
