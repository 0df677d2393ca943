"""Sends the messages of one channel: in order, one at a time, each until it is accepted, rejected or given up.

If the channel fails, the message is sent again after one second, then after twice as long each time up to a minute,
with jitter; or after the time that the receiver asked for. Meanwhile the other messages wait, and later episodes are
joined into one message (app/alerting/engine.py). A channel that stays down is reported through ``report``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from app.alerting.channels.api import Answer, BaseChannel, MessageRejected, Retry
from app.metrics import Metrics
from app.wire.notifications import FAILED, SENT, Notification

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
LONGEST_RETRY_AFTER_S = 3600.0  # that a receiver may ask for
SEND_S = 60.0  # longest attempt, above the channels' own limits
DOWN_AFTER_S = 60.0  # failing for so long, a channel is down

log = logging.getLogger(__name__)


@dataclass
class QueuedNotification:
    """A notification, and what to call when it was sent or given up."""

    notification: Notification
    done: Callable[[Notification], Awaitable[None]]
    still_ours: Callable[[], bool]  # False: the next owner of its partition sends it


@dataclass
class ChannelStatus:
    """State of a channel. Times are epoch seconds."""

    failing_since: float = 0.0  # 0: it works
    error: str = ""
    down: bool = False  # and this was reported
    sent: int = 0
    waiting: int = 0
    answered_at: float = 0.0  # when a message was last sent or given up; 0: never
    answer: str = ""  # the answer then


@dataclass
class Delivery:
    """The queue of one channel. ``run`` sends its messages until cancelled."""

    channel: BaseChannel
    metrics: Metrics
    give_up_after_s: float
    # (channel, is it down, why): called once when it is down, and once when it works again
    report: Callable[[str, bool, str], None]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    status: ChannelStatus = field(default_factory=ChannelStatus)
    _queue: asyncio.Queue[QueuedNotification] = field(default_factory=asyncio.Queue)

    def put(self, queued: QueuedNotification) -> None:
        """Add a message to the queue."""
        self._queue.put_nowait(queued)
        self.status.waiting += 1

    async def run(self) -> None:
        while True:
            queued = await self._queue.get()
            await self._deliver(queued)
            self.status.waiting -= 1

    async def _deliver(self, queued: QueuedNotification) -> None:
        notification = queued.notification
        wait_s = FIRST_WAIT_S
        while queued.still_ours():
            notification.attempts += 1
            retry_after_s = None
            try:
                answer = await asyncio.wait_for(self.channel.send(notification), SEND_S)
            except MessageRejected as error:
                log.error("channel %s rejected a message: %s", self.channel.name, error)
                await self._done(queued, FAILED, Answer(str(error)))
                self._works()  # it does answer
                return
            except Retry as error:
                why, retry_after_s = str(error), error.after_s
            except TimeoutError:
                why = f"no answer within {SEND_S:g} s"
            except Exception as error:
                log.exception("channel %s", self.channel.name)
                why = f"{type(error).__name__}: {error}"
            else:
                await self._done(queued, SENT, answer)
                self._works()
                return
            self._fails(why)
            if self.clock() - notification.created_at > self.give_up_after_s:
                log.error("channel %s: a message was given up: %s", self.channel.name, why)
                await self._done(queued, FAILED, Answer(f"given up after {notification.attempts} attempts: {why}"))
                return
            await self.sleep(
                min(retry_after_s, LONGEST_RETRY_AFTER_S)
                if retry_after_s is not None
                else wait_s * (0.5 + self.random())
            )
            wait_s = min(2.0 * wait_s, LONGEST_WAIT_S)
        if (
            self.status.waiting == 1
        ):  # the last message went to another process, which finds out the state of the channel
            self.forget()

    async def _done(self, queued: QueuedNotification, state: str, answer: Answer) -> None:
        notification = queued.notification
        notification.state = state  # type: ignore[assignment]
        notification.answer, notification.reference = answer.said[:1000], answer.reference
        notification.done_at = self.clock()
        self.status.answered_at, self.status.answer = notification.done_at, notification.answer
        self.metrics.notification(self.channel.name, state)
        if state == SENT:
            self.status.sent += 1
            newest = max((one.event.timestamp for one in notification.news), default=notification.created_at)
            self.metrics.notification_delay.observe(max(notification.done_at - newest, 0.0))
        await queued.done(notification)

    def _fails(self, why: str) -> None:
        status, now = self.status, self.clock()
        if not status.failing_since:
            status.failing_since = now
            log.warning("channel %s does not take messages, trying again: %s", self.channel.name, why)
            self.metrics.channel_up(self.channel.name, False)
        status.error = why
        if not status.down and now - status.failing_since >= DOWN_AFTER_S:
            status.down = True
            log.error("channel %s is down since %.0f s: %s", self.channel.name, now - status.failing_since, why)
            self.report(self.channel.name, True, why)

    def forget(self) -> None:
        """Reset the state: no message waits here any more."""
        status = self.status
        if status.failing_since:
            status.failing_since, status.error, status.down = 0.0, "", False
            self.metrics.channel_unknown(self.channel.name)

    def _works(self) -> None:
        status = self.status
        if status.failing_since:
            log.info("channel %s takes messages again", self.channel.name)
            if status.down:
                self.report(self.channel.name, False, status.error)
            status.failing_since, status.error, status.down = 0.0, "", False
        self.metrics.channel_up(self.channel.name, True)
