"""Time, network and processes of the simulation: one thread, one clock, every order of events chosen by the schedule.

A process has an event loop of its own, turned by hand, one iteration after another. So it can be killed between any
two iterations (that is, at any await of what runs in it), or be stopped while the world goes on.
"""

import asyncio
import heapq
import warnings
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

IN_THE_NET_S = 0.2  # what a process sent so long before its end arrives all the same
CALM_S = 0.001  # a hop of the network when nothing is wrong
DELAYS_MS = (
    *(1, 0, 1, 1, 2, 2, 2, 5, 5, 5, 10, 10, 20, 20, 20, 40, 1, 1, 1, 1, 1, 1, 40, 80, 80, 80, 150, 150, 300, 600),
    *(1200, 4000),
)  # a hop of the network, by a number of the schedule; the last ones cost a session
FETCHES = (1, 2, 3, 7, 20, 100)  # records
EPOCH_S = 1_700_000_000.0
NEVER = float("inf")


class Ended(SystemExit):
    """A process came to its end by itself. Leaves an event loop at once, as os._exit does."""


class Loop(asyncio.BaseEventLoop):
    """Runs one iteration when told to, in the simulation's time; it has nothing to wait for."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world
        self._selector = self
        self.tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return self._world.now

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def create_task(self, coro: Any, **named: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **named)
        self.tasks.append(task)
        return task

    @property
    def busy(self) -> bool:
        """An iteration would do something at once."""
        return bool(self._ready)

    @property
    def due(self) -> float:
        """When an iteration would do something."""
        if self._ready:
            return self._world.now
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        return scheduled[0]._when if scheduled else NEVER

    def turn(self) -> None:
        asyncio._set_running_loop(self)
        try:
            self._run_once()
        finally:
            asyncio._set_running_loop(None)

    def dispose(self) -> None:
        """Close what is left in it, as the end of a process does, without running any of it."""
        self.set_exception_handler(lambda *_: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that never began
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False
                    task.get_coro().close()
            self.close()
            self.tasks.clear()


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    def time(self) -> float:
        return EPOCH_S + self._world.now


class Process:
    """What runs in one event loop, until it is killed or stops itself."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.loop = Loop(world)
        self.loop.set_exception_handler(self._unexpected)
        self.alive = True
        self.ended_at = NEVER
        self.still_until = -1.0  # stopped by SIGSTOP
        self.silent_from = self.silent_until = -1.0  # nothing it sends arrives, and nothing reaches it

    @property
    def runs(self) -> bool:
        return self.alive and self.still_until <= self.world.now

    def stand_still(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.cut_off(for_s)
        self.still_until = self.silent_until
        self.world.at(self.still_until, lambda: None)

    def cut_off(self, for_s: float) -> None:
        """Lose every connection; what is sent arrives when they are back."""
        if self.silent_until < self.world.now:
            self.silent_from = self.world.now
        self.silent_until = max(self.silent_until, self.world.now + for_s)

    def turn(self) -> None:
        try:
            self.loop.turn()
        except Ended as ended:
            self.end(ended)

    def end(self, error: BaseException | None = None) -> None:
        """Stop for good, at once."""
        if self.alive:
            self.alive, self.ended_at = False, self.world.now

    def _unexpected(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.alive and not isinstance(error, Ended):
            self.end(error or RuntimeError(context["message"]))

    def send(
        self, what: Callable[[Callable[[Any], None]], None], there: float, back: float, answered: asyncio.Future[Any]
    ) -> None:
        """Send a request, ``there`` seconds away; its reply, ``back`` seconds away, goes into ``answered``.

        ``what`` runs at the other end and calls its argument with the answer, or with an exception, at any time.
        """
        world = self.world

        def answer(value: Any) -> None:
            if not self.alive or answered.done():
                return
            if self.silent_until > world.now:
                world.at(self.silent_until + back, lambda: answer(value))
            elif isinstance(value, Exception):
                answered.set_exception(value)
            else:
                answered.set_result(value)

        def arrive() -> None:
            if not self.alive:
                if world.now > self.ended_at + IN_THE_NET_S:
                    return
            elif self.silent_until > world.now > self.silent_from + IN_THE_NET_S:
                world.at(self.silent_until + there, arrive)  # it was lost, and is sent again
                return
            what(lambda value: world.at(world.now + back, lambda: answer(value)))

        world.at(world.now + there, arrive)


class World:
    """Everything that happens, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0
        self.processes: list[Process] = []
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._running: Process | None = None

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), what))

    def step(self) -> bool:
        """One iteration of one process, or one event; False when there is nothing left to happen."""
        self.turns += 1
        if self._running and self._running.loop.busy and self._running.runs:
            self._running.turn()
            return True
        running = [process for process in self.processes if process.runs]
        first, number = min(((process.loop.due, i) for i, process in enumerate(running)), default=(NEVER, 0))
        event = self._events[0][0] if self._events else NEVER
        if first == event == NEVER:
            return False
        if first <= max(event, self.now):
            self.now = max(self.now, first)
            self._running = running[number]
            self._running.turn()
        else:
            self.now = max(self.now, event)
            heapq.heappop(self._events)[2]()
        return True

    def dispose(self) -> None:
        for process in self.processes:
            process.loop.dispose()


class Net:
    """How long a hop takes and how many records a fetch brings: by numbers of the schedule, used in turn."""

    def __init__(self, acks: bytes, others: bytes, fetches: bytes) -> None:
        self._acks, self._others, self._fetches = (cycle(numbers or b"\1") for numbers in (acks, others, fetches))
        self.calm = False

    def ack_s(self) -> float:
        """Of a record batch to the broker, or of its acknowledgement back."""
        return self._hop(self._acks)

    def other_s(self) -> float:
        """Of anything else."""
        return self._hop(self._others)

    def fetch_records(self) -> int:
        return FETCHES[-1] if self.calm else FETCHES[next(self._fetches) % len(FETCHES)]

    def _hop(self, numbers: Iterator[int]) -> float:
        return CALM_S if self.calm else DELAYS_MS[next(numbers) % len(DELAYS_MS)] / 1000.0
