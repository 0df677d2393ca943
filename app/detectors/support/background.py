"""Calls that are started at one point of the stream and whose results are needed at a later one.

One thread makes the calls, in the order in which they were started. ``Task.result`` waits for a running call, and
makes a call that has not started itself: so results do not depend on timing, only the computing thread does. A task
without references is skipped. Only one call runs at a time: scikit-learn changes the process's warning filters during
a fit and restores them afterwards, which is not safe with two calls.

One thread, since the calls share Python's interpreter lock with the stream: with two threads, 1 to 1.6 times as many
fits of scikit-learn were measured, and longer delays of the stream. The thread ends when no task is left and a new one
starts with the next task; at exit, the process waits for the running call only. While it works, threads request the
lock after TURN_S: with Python's 5 ms the stream's thread took 13 ms to wake up (99th percentile) during the fit of an
isolation forest, with this 5 ms.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")
TURN_S = 0.0005


class Task(Generic[T]):
    """A call that is made once, by the caller of ``result`` or by the thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call: Callable[[], T] | None = call
        self._found: T
        self._error: Exception | None = None

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        if self._call is not None:
            self.run()
        if self._error:
            raise self._error
        return self._found

    def run(self) -> None:
        """Make the call unless it was made; wait while another one runs."""
        with _turn:
            if self._call is not None:
                try:
                    self._found = self._call()
                except Exception as error:  # noqa: BLE001 (raised by result)
                    self._error = error
                self._call = None


_turn = threading.Lock()  # held while a call runs
_lock = threading.Lock()  # guards the variables below
_waiting: deque[ref[Task]] = deque()
_working = False


def begin(call: Callable[[], T]) -> Task[T]:
    """Queue a call for the thread. Errors are raised by ``Task.result``."""
    global _working
    task = Task(call)
    with _lock:
        _waiting.append(ref(task))
        if not _working:
            try:
                threading.Thread(target=_work, name="background").start()
                _working = True
            except RuntimeError:  # no thread can be started: ``result`` makes the call
                _waiting.clear()
    return task


def _work() -> None:
    global _working
    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    while True:
        with _lock:
            # Daemon threads are stopped anywhere, C++ included, and executors finish all their work first.
            if not _waiting or not threading.main_thread().is_alive():
                sys.setswitchinterval(usual)
                _working = False
                return
            task = _waiting.popleft()()
        if task is not None:
            task.run()
