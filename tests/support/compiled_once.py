"""What the worker processes of tests run, compiled once for a whole run of pytest, before the clock of any test counts.

In a clean clone each of them would compile the same code for itself, several at a time on two cores, while the tests
that started them wait.
"""

import fcntl
from itertools import chain
from pathlib import Path

from chaos.plan import DETECTIONS
from integration.run import SECTIONS

from app.pipeline import Pipeline
from app.settings import load
from app.stream.warm_up import warm_up

PROFILES = [{}, *(SECTIONS["detection"] | detection for detection in DETECTIONS)]


def compile_once(locks: Path, first: int) -> None:
    """Compile each profile, or load it from the cache when another process has compiled it meanwhile.

    Processes with different ``first`` begin with different profiles and so share the work.
    """
    first %= len(PROFILES)
    for number in chain(range(first, len(PROFILES)), range(first)):
        with (locks / str(number)).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            warm_up(Pipeline.of(load(environ={}, detection=PROFILES[number])))
