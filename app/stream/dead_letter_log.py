"""Reports dead letters to the operator: in the log, in the details of /readyz and in the view.

For each reason, the first dead letter is logged at once, and later ones once in 30 s: how many, an example, what to do.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from app.wire.dead_letters import TO_DO, DeadLetter

EVERY_S = 30.0

log = logging.getLogger(__name__)


@dataclass
class ReasonCount:
    """Dead letters of one reason. Times are epoch seconds."""

    total: int = 0
    unlogged: int = 0
    logged_at: float = -EVERY_S
    last: float = 0.0  # time of the last one
    example: str = ""  # the last one


class DeadLetterLog:
    """The dead letters of one worker.

    Parameters
    ----------
    topic
        Where the dead letters are written.
    clock
        Epoch seconds.
    """

    def __init__(self, topic: str, clock: Callable[[], float] = time.time) -> None:
        self._topic, self._clock = topic, clock
        self._by_reason: dict[str, ReasonCount] = {}  # no more than there are labels of dead letters

    def add(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Count these, and log what is due."""
        for dead_letter in dead_letters:
            count = self._by_reason.setdefault(dead_letter.label, ReasonCount())
            count.total += 1
            count.unlogged += 1
            count.last, count.example = self._clock(), dead_letter.reason
        self.log_due()

    def log_due(self) -> None:
        """Log what is due. To be called regularly, so that the last dead letters are logged too."""
        now = self._clock()
        for reason, count in self._by_reason.items():
            if count.unlogged and not 0.0 <= now - count.logged_at < EVERY_S:
                log.warning(
                    "%d dead letters in %s: %s, such as %s. %s",
                    count.unlogged, self._topic, reason, count.example, TO_DO[reason],
                )  # fmt: skip
                count.logged_at, count.unlogged = now, 0

    def summary(self) -> list[dict[str, Any]]:
        """For probes and the view, the latest first: reason, total since the start, last (epoch s), example, to_do."""
        latest = sorted(self._by_reason.items(), key=lambda item: -item[1].last)
        return [
            {
                "reason": reason,
                "total": count.total,
                "last": count.last,
                "example": count.example,
                "to_do": TO_DO[reason],
            }
            for reason, count in latest
        ]
