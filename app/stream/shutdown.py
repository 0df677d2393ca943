"""A worker that was asked to stop is gone within a bound, whatever hangs."""

import asyncio
import threading

import faust

from app.errors import DeliveryError
from app.stream.crash import stop_process

BEYOND_SESSION_S = 5.0  # after one session the group takes what was ours away, so there is nothing to wait for
CANCELLED_S = 0.5


class Worker(faust.Worker):
    """Faust's process without the sleeps at its end: two seconds, for tasks that have nothing to do any more."""

    def _gather_all(self) -> None:
        if tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=CANCELLED_S))

    async def _sentinel_task(self) -> None:
        return


def end_within(session_timeout_s: float) -> None:
    """End the process when it is still there after its session and a little.

    A thread waits for it, as what hangs may be the event loop. What was not committed by then is read again.
    """
    limit_s = session_timeout_s + BEYOND_SESSION_S
    error = DeliveryError(
        f"the stop is not done after {limit_s:g} s (kafka.session_timeout_s + {BEYOND_SESSION_S:g}): is the broker "
        "reachable? What is not committed is read again by the next worker"
    )
    timer = threading.Timer(limit_s, stop_process, [error])
    timer.daemon = True
    timer.start()
