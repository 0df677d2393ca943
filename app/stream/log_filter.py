"""Limits how often aiokafka logs the same message: while a broker is away it does so hundreds of times a second."""

import logging
import time
from collections.abc import Callable

REPEAT_AFTER_S = 10.0


class RepeatFilter(logging.Filter):
    """Passes one record of each message (its text before the arguments) in ``every_s``, and says how many it dropped.

    ``clock`` gives seconds.
    """

    def __init__(self, every_s: float = REPEAT_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._passed_at: dict[tuple[str, str], float] = {}
        self._dropped: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (record.name, str(record.msg)), self._clock()
        if now - self._passed_at.get(key, -self._every_s) < self._every_s:
            self._dropped[key] = self._dropped.get(key, 0) + 1
            return False
        self._passed_at[key] = now
        if dropped := self._dropped.pop(key, 0):
            record.msg, record.args = f"{record.getMessage()} (and {dropped} more like it since)", ()
        return True


def limit_repeats(prefix: str = "aiokafka") -> None:
    """Let the loggers under the prefix log warnings and errors only, and repeat each of them only now and then."""
    logging.getLogger(prefix).setLevel(logging.WARNING)
    repeats = RepeatFilter()
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(prefix):
            logging.getLogger(name).addFilter(repeats)
