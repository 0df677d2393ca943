"""aiokafka's log, made shorter: it repeats itself hundreds of times a second while a broker is away."""

import logging
import time
from collections.abc import Callable

REPEAT_AFTER_S = 10.0


class OnceInAWhile(logging.Filter):
    """Passes one record of each message (its text before the arguments) in ``every_s``, and says how many it kept.

    ``clock`` gives seconds.
    """

    def __init__(self, every_s: float = REPEAT_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._passed: dict[tuple[str, str], float] = {}
        self._kept: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (record.name, str(record.msg)), self._clock()
        if now - self._passed.get(key, -self._every_s) < self._every_s:
            self._kept[key] = self._kept.get(key, 0) + 1
            return False
        self._passed[key] = now
        if kept := self._kept.pop(key, 0):
            record.msg, record.args = f"{record.getMessage()} (and {kept} more like it since)", ()
        return True


def quieten(prefix: str = "aiokafka") -> None:
    """Warnings and errors only, each now and then, from every logger under the prefix."""
    logging.getLogger(prefix).setLevel(logging.WARNING)
    once = OnceInAWhile()
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(prefix):
            logging.getLogger(name).addFilter(once)
