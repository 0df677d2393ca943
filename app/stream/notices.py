"""What an operator should know of and no error ends: dead letters, by reason.

The first of a reason shows in the log at once, those that follow once in 30 s: how many, one of them, what to do. The
same is in the details of /readyz and in the view.
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
class Notice:
    """Of one reason. Times are of the clock."""

    total: int = 0
    unsaid: int = 0
    said: float = -EVERY_S
    last: float = 0.0  # when there was one
    example: str = ""  # the last one


class Notices:
    """Of one worker.

    Parameters
    ----------
    topic
        Where the dead letters are.
    clock
        Epoch seconds, which operators can compare with their own.
    """

    def __init__(self, topic: str, clock: Callable[[], float] = time.time) -> None:
        self._topic, self._clock = topic, clock
        self._of: dict[str, Notice] = {}  # reason -> notice; there are no more reasons than labels of dead letters

    def dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        """Take note of these."""
        for letter in letters:
            notice = self._of.setdefault(letter.label, Notice())
            notice.total += 1
            notice.unsaid += 1
            notice.last, notice.example = self._clock(), letter.reason
        self.say()

    def say(self) -> None:
        """Log what is due; to be called now and then, so that the last ones are said too."""
        now = self._clock()
        for reason, notice in self._of.items():
            if notice.unsaid and not 0.0 <= now - notice.said < EVERY_S:
                log.warning(
                    "%d dead letters in %s: %s, such as %s. %s",
                    notice.unsaid, self._topic, reason, notice.example, TO_DO[reason],
                )  # fmt: skip
                notice.said, notice.unsaid = now, 0

    def summary(self) -> list[dict[str, Any]]:
        """For probes and the view, the latest first: reason, total since the start, last (epoch s), example, to_do."""
        latest = sorted(self._of.items(), key=lambda one: -one[1].last)
        return [
            {
                "reason": reason,
                "total": notice.total,
                "last": notice.last,
                "example": notice.example,
                "to_do": TO_DO[reason],
            }
            for reason, notice in latest
        ]
