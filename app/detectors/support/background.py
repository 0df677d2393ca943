"""Work that is begun at one point of the stream and needed at a later one.

One thread makes the calls, in the order they were begun. Who needs a result that is not there yet waits for it, or,
where the thread has not come to it, makes the call itself: so what comes out depends on no clock, only who computes it
does. A task that nobody holds any more is passed over. One call is made at a time: scikit-learn changes the process's
warning filters while it fits and puts back what it found, which may be what another call had changed.

One thread, since the calls share Python's interpreter lock with the stream: two were measured to finish 1 to 1.6 times
as many fits of scikit-learn, and to hold up the stream longer. It ends when there is nothing to do and begins anew with
the next task; when the process ends it is waited for, but only for the call that it is in. While it works, threads ask
each other for the lock after TURN_S: with Python's 5 ms the stream's thread took 13 ms to wake up (99th percentile)
while an isolation forest was fitted, with this 5 ms.
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
    """A call that is made once, here or in the thread."""

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
        """Make the call, unless it was made; while another is made, wait."""
        with _turn:
            if self._call is not None:
                try:
                    self._found = self._call()
                except Exception as error:  # noqa: BLE001 (raised by result)
                    self._error = error
                self._call = None


_turn = threading.Lock()  # whose call is made
_lock = threading.Lock()  # of what follows
_waiting: deque[ref[Task]] = deque()
_working = False


def begin(call: Callable[[], T]) -> Task[T]:
    """Let the thread make this call, after those begun before. Nothing is raised here."""
    global _working
    task = Task(call)
    with _lock:
        _waiting.append(ref(task))
        if not _working:
            try:
                threading.Thread(target=_work, name="background").start()
                _working = True
            except RuntimeError:  # no thread to be had: the call is made where its result is needed
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
