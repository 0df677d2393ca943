"""Limits how long a worker takes to stop, also when something hangs."""

import asyncio
import threading

import faust

from app.errors import DeliveryError
from app.stream.crash import stop_process

BEYOND_SESSION_S = 5.0  # after one session the group assigns our partitions to others: no need to wait longer
CANCELLED_S = 0.5


class Worker(faust.Worker):
    """Faust's process without the two seconds of sleep at its end, which wait for tasks that have nothing to do."""

    def _gather_all(self) -> None:
        if tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=CANCELLED_S))

    async def _sentinel_task(self) -> None:
        return


def end_within(session_timeout_s: float) -> None:
    """End the process if it still runs some seconds after its session has ended.

    A thread waits, because the event loop itself may hang. What was not committed by then is read again.
    """
    limit_s = session_timeout_s + BEYOND_SESSION_S
    error = DeliveryError(
        f"the stop is not done after {limit_s:g} s (kafka.session_timeout_s + {BEYOND_SESSION_S:g}): is the broker "
        "reachable? What is not committed is read again by the next worker"
    )
    timer = threading.Timer(limit_s, stop_process, [error])
    timer.daemon = True
    timer.start()
