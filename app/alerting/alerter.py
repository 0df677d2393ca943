"""Reads the events of episodes from Kafka and notifies people through channels.

Alerters are a consumer group of their own, in the workers or as separate processes, and share the partitions of the
topic of anomalies. The owner of a partition first reads the earlier notifications, then the events in the log, and then
follows the events. app/alerting/engine.py decides, app/alerting/delivery.py sends.

    event -> engine -> notification, queued and acknowledged -> channel -> notification, sent or failed

After any failure of Kafka the state is dropped and read again from the topics, after a pause. No failure here ends a
worker, and scoring does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from app.alerting import channels
from app.alerting.channels.api import BaseChannel, Context
from app.alerting.chart_points import last_points
from app.alerting.current_decisions import CurrentDecisions
from app.alerting.delivery import ChannelStatus, Delivery, QueuedNotification
from app.alerting.engine import Engine, notification_id
from app.alerting.outgoing import Outgoing
from app.alerting.rate_limit import RateLimit
from app.alerting.routes import Routes
from app.alerting.silent_sources import SilentSources, SilentTopic
from app.errors import AnomalyError, InvalidPoint, StateError
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.metrics import FEEDBACK_DAYS, Metrics
from app.settings import Settings
from app.wire import episodes, notifications
from app.wire.decisions import Acknowledgement
from app.wire.notifications import FAILED, MUTED, QUEUED, SENT, Notification

LOOK_BACK_S = 8 * 86_400.0  # earlier events are not needed: open episodes have had later ones
TICK_S = 0.1
COMMIT_EVERY_S = 1.0
DECISIONS_EVERY_S = 0.5
SILENCES_EVERY_S = 30.0
MEASURE_EVERY_S = 1.0
FEEDBACK_EVERY_S = 30.0
EXPIRE_EVERY_S = 3600.0
LOG_EVERY_S = 30.0
LEASE = 0.5  # of the session timeout: for so long after an accepted commit the partitions are ours
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
MAX_EVENTS = 5_000  # of one fetch

UNREACHED = (AnomalyError, aiohttp.ClientError, OSError, TimeoutError)

log = logging.getLogger(__name__)


class AlerterPartition:
    """One assigned partition of the topic of anomalies."""

    def __init__(self, engine: Engine, silent_sources: SilentSources, unsent: list[Notification], end: int) -> None:
        self.engine = engine
        self.silent_sources = silent_sources
        self.unsent = unsent  # notifications queued by an earlier owner
        self.end = end  # of the log at the assignment; nothing is sent before it is reached
        self.position = 0
        self.caught_up = False


class Alerter:
    """Sends notifications of episodes, from ``start`` to ``stop``.

    The constructor raises ConfigurationError if rules or channels are wrong.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self.state = "stopped"
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._references: dict[tuple[str, str], str] = {}  # (channel, episode)
        outgoing = Outgoing(settings.alerting.allowed_addresses)
        context = Context(
            session=outgoing.session,
            check=outgoing.check,
            view_url=settings.alerting.view_url or "",
            log_file=settings.alerting.anomaly_log_file,
            reference=lambda channel, episode: self._references.get((channel, episode), ""),
            acknowledgement=self._acknowledgement,
            history=partial(last_points, settings.kafka),
        )
        self._routes = Routes.of(settings.alerting, settings._given)
        for warning in self._routes.warnings():
            log.warning("%s", warning)
        self._channels = channels.make(settings, context)
        metrics.channels(self._channels)
        self._task: asyncio.Task[None] | None = None
        self._current: _Run | None = None

    async def start(self) -> None:
        """Start the task; it connects, and connects again after failures."""
        self._task = asyncio.create_task(self._run(), name="alerter")

    async def stop(self) -> None:
        """Stop the task and close the channels; also if it was never started."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            for channel in self._channels.values():
                await channel.close()
            self._task, self.state = None, "stopped"

    def summary(self) -> dict[str, Any]:
        """For /readyz: its state, partitions, open episodes and failing channels."""
        found: dict[str, Any] = {"state": self.state}
        if run := self._current:
            found["partitions"] = sorted(run.owned)
            found["episodes_open"] = sum(owned.engine.open_count() for owned in run.owned.values())
            failing = {name: of.status.error for name, of in run.deliveries.items() if of.status.failing_since}
            if failing:
                found["failing_channels"] = failing
        return found

    def channels(self) -> dict[str, tuple[str, ChannelStatus | None]]:
        """Type and status of each channel, for the view; no status while the alerter is not running."""
        deliveries = self._current.deliveries if self._current else {}
        return {
            name: (
                type(channel).__module__.rpartition(".")[2],
                deliveries[name].status if name in deliveries else None,
            )
            for name, channel in self._channels.items()
        }

    def _acknowledgement(self, episode: str) -> Acknowledgement | None:
        return self._current.decided.acknowledged.get(episode) if self._current else None

    async def _run(self) -> None:
        wait_s = FIRST_RETRY_S
        while True:
            run = _Run(self._settings, self._metrics, self._clock, self._routes, self._channels, self._references)
            began = time.monotonic()
            try:
                self._current, self.state = run, "running"
                await run.run()
            except (KafkaError, OSError, StateError) as error:
                log.warning("alerter: restarts: %s: %s", type(error).__name__, error)
                self.state = f"restarting: {type(error).__name__}: {error}"
            except Exception as error:  # its state is read again from the topics; scoring continues
                log.exception("alerter: restarts")
                self.state = f"restarting: {type(error).__name__}: {error}"
            finally:
                self._current = None
            self._metrics.alerter_restarts.inc()
            wait_s = FIRST_RETRY_S if time.monotonic() - began > LONGEST_RETRY_S else min(2 * wait_s, LONGEST_RETRY_S)
            await asyncio.sleep(wait_s)


class _Run(ConsumerRebalanceListener):
    """One connection to Kafka, until something fails."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
        routes: Routes,
        made: Mapping[str, BaseChannel],
        references: dict[tuple[str, str], str],
    ) -> None:
        self._settings, self._metrics, self._clock, self._routes = settings, metrics, clock, routes
        self._kafka, self._alerting, self._channels, self._references = (
            settings.kafka,
            settings.alerting,
            made,
            references,
        )
        self.decided = CurrentDecisions()
        self._topic = SilentTopic(self.decided)
        self._rate_limits = {name: RateLimit(self._per_minute(name, channel)) for name, channel in made.items()}
        self.owned: dict[int, AlerterPartition] = {}
        self.deliveries: dict[str, Delivery] = {}
        self._wanted: set[int] = set()
        self._committed_at = float("-inf")
        self._skipped, self._logged_at = 0, float("-inf")
        self._positions: dict[TopicPartition, int] = {}  # at most a second old
        self._measure_at = self._feedback_at = float("-inf")

    def _per_minute(self, name: str, channel: BaseChannel) -> float:
        of = self._alerting.channels.get(name)
        return of.messages_per_minute if of and of.messages_per_minute else channel.MESSAGES_PER_MINUTE

    async def run(self) -> None:
        """Run until something fails; raises that error."""
        options = client_options(self._kafka)
        self._consumer = AIOKafkaConsumer(
            group_id=self._kafka.alerter_group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=int(self._kafka.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(1.0, self._kafka.session_timeout_s / 4) * 1000),
            metadata_max_age_ms=10_000,
            **options,
        )
        codec = self._kafka.compression
        self._producer = AIOKafkaProducer(
            acks="all", enable_idempotence=True, compression_type=None if codec == "none" else codec,
            max_request_size=8 << 20, request_timeout_ms=int(self._kafka.ack_timeout_s * 1000), **options,
        )  # fmt: skip
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._producer.start()
            await self._read_all_decisions(options)
            for name, channel in self._channels.items():
                of = self._metrics, self._alerting.give_up_after_s, self._report, self._clock
                self.deliveries[name] = Delivery(channel, *of)
            self._consumer.subscribe([self._kafka.anomalies_topic], listener=self)
            await self._consumer.start()
            steps = [self._run_partitions(), self._follow_decisions(), *(of.run() for of in self.deliveries.values())]
            steps += [self._refresh(channel) for channel in self._channels.values() if channel.REFRESH_S]
            steps += [self._follow_silences(name, channel) for name, channel in self._channels.items()
                      if type(channel).silences is not BaseChannel.silences]  # fmt: skip
            tasks = [asyncio.create_task(step) for step in steps]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.owned.clear()
            for delivery in self.deliveries.values():
                delivery.forget()
            for gauge in (self._metrics.episodes_open, self._metrics.alerter_partitions, self._metrics.alerter_lag):
                gauge.set(0)
            await self._close()

    async def _close(self) -> None:
        for client in (self._consumer, self._producer, getattr(self, "_decisions", None)):
            if client is not None:
                await asyncio.gather(asyncio.wait_for(client.stop(), 10.0), return_exceptions=True)

    # --- partitions

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for tp in revoked:
            self.owned.pop(tp.partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._wanted = {tp.partition for tp in assigned}
        self._committed_at = float("-inf")

    async def _take_over(self, numbers: list[int]) -> None:
        """Read the earlier notifications of these partitions, and seek to their events."""
        notified = await self._read_notifications(numbers)
        logs = [TopicPartition(self._kafka.anomalies_topic, number) for number in numbers]
        since = int(max(self._clock() - LOOK_BACK_S, 0.0) * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(logs, since))
        ends = await self._consumer.end_offsets(logs)
        count = len(self._consumer.partitions_for_topic(self._kafka.anomalies_topic) or logs)
        for tp in logs:
            if tp.partition in self._wanted and tp in self._consumer.assignment():
                self._consumer.seek(tp, at.offset if (at := found[tp]) else ends[tp])
                self.owned[tp.partition] = self._new_partition(tp.partition, count, notified[tp.partition], ends[tp])
        log.info("alerter: partitions %s of %s", sorted(self.owned), self._kafka.anomalies_topic)

    def _new_partition(self, number: int, count: int, earlier: Iterable[Notification], end: int) -> AlerterPartition:
        engine = Engine(self._alerting, self._routes, self.decided, self._rate_limits)
        silent_sources = SilentSources(self._kafka.input_topic, number, count, self.decided, self._topic)
        unsent: list[Notification] = []
        for one in sorted(earlier, key=lambda one: one.created_at):
            if one.state == QUEUED and one.channel not in self._channels:
                one.state, one.answer = FAILED, "this channel no longer exists"
            engine.remember(one)
            silent_sources.remember(one)
            self._remember_reference(one)
            if one.state == QUEUED:
                unsent.append(one)
        return AlerterPartition(engine, silent_sources, unsent, end)

    async def _read_notifications(self, numbers: list[int]) -> dict[int, list[Notification]]:
        """The last record of each notification, by partition."""
        topic = self._kafka.notifications_topic
        found: dict[int, dict[bytes, Notification]] = {number: {} for number in numbers}
        async with _reader(client_options(self._kafka)) as reader:
            async for record in _read_to_end(reader, [TopicPartition(topic, number) for number in numbers]):
                if record.value is None:
                    found[record.partition].pop(record.key, None)
                    continue
                try:
                    found[record.partition][record.key] = notifications.decode(record.value)
                except StateError as error:
                    self._skip(record, f"{error}. Only alerters may write to this topic")
        return {number: list(of.values()) for number, of in found.items()}

    # --- events in, notifications out

    async def _run_partitions(self) -> None:
        expire_at = self._clock() + EXPIRE_EVERY_S
        while True:
            if new := sorted(self._wanted - self.owned.keys()):
                await self._take_over(new)
            fetched = await self._consumer.getmany(timeout_ms=int(TICK_S * 1000), max_records=MAX_EVENTS)
            for tp, records in fetched.items():
                if owned := self.owned.get(tp.partition):
                    self._take(owned, tp, records)
            await self._commit()
            # All partitions share the rate limits: without turns the first partition would use them up.
            for number, owned in sorted(self.owned.items(), key=lambda one: one[1].engine.waiting_since()):
                if not owned.caught_up:
                    tp = TopicPartition(self._kafka.anomalies_topic, number)
                    if tp not in self._consumer.assignment() or await self._consumer.position(tp) < owned.end:
                        continue
                    owned.caught_up = True
                    for notification in owned.unsent:
                        self._hand_over(number, owned, notification)
                now = self._clock()
                for event in owned.silent_sources.events(now):
                    owned.engine.take(event, now)
                made = owned.engine.poll(now)
                if made:
                    await self._queue(number, owned, made)
            self._measure()
            if self._clock() >= expire_at:
                expire_at = self._clock() + EXPIRE_EVERY_S
                for number, owned in list(self.owned.items()):
                    await self._write(number, [(id, None) for id in owned.engine.expire(self._clock())])

    def _measure(self) -> None:
        now, metrics = time.monotonic(), self._metrics
        if now >= self._measure_at:
            self._measure_at = now + MEASURE_EVERY_S
            metrics.episodes_open.set(sum(one.engine.open_count() for one in self.owned.values()))
            metrics.alerter_partitions.set(len(self.owned))
            left = {tp: at for tp, at in self._positions.items() if tp in self._consumer.assignment()}
            metrics.alerter_lag.set(
                sum(max((self._consumer.last_stable_offset(tp) or 0) - at, 0) for tp, at in left.items())
            )
        if now >= self._feedback_at:
            self._feedback_at = now + FEEDBACK_EVERY_S
            since = self._clock() - FEEDBACK_DAYS * 86400.0
            said: Counter[str] = Counter(one.verdict for one in self.decided.feedback.values() if one.at >= since)
            for verdict, gauge in metrics.feedback.items():
                gauge.set(said[verdict])

    def _take(self, owned: AlerterPartition, tp: TopicPartition, records: list[Any]) -> None:
        now = self._clock()
        for record in records:
            if record.value is None:
                continue
            try:
                event = episodes.decode(record.value)
            except InvalidPoint as error:
                self._skip(record, str(error))
                continue
            live = record.timestamp / 1000.0 >= now - self._alerting.max_age_s
            owned.engine.take(event, now, live)

    def _skip(self, record: Any, why: str) -> None:
        """Count a record that cannot be read; log this now and then, as there may be many, of an earlier version."""
        self._metrics.alerter_skipped.inc()
        self._skipped += 1
        if time.monotonic() - self._logged_at >= LOG_EVERY_S:
            where = f"{record.topic}[{record.partition}]@{record.offset}"
            log.warning("alerter: %d records skipped, the last at %s: %s", self._skipped, where, why)
            self._skipped, self._logged_at = 0, time.monotonic()

    async def _commit(self) -> None:
        """Commit the positions, for lag monitoring and to check that the group still gives us the partitions."""
        now = time.monotonic()
        if now - self._committed_at < COMMIT_EVERY_S or not self.owned:
            return
        assigned = self._consumer.assignment()
        at = {
            tp: OffsetAndMetadata(await self._consumer.position(tp), "")
            for tp in assigned
            if tp.partition in self.owned
        }
        self._positions = {tp: found.offset for tp, found in at.items()}
        try:
            await self._consumer.commit(at)
        except KafkaError as error:
            log.info("alerter: commit refused: %s", type(error).__name__)
        else:
            self._committed_at = time.monotonic()

    def _ours(self) -> bool:
        """Whether the group confirmed it recently."""
        return time.monotonic() - self._committed_at <= LEASE * self._kafka.session_timeout_s

    async def _queue(self, number: int, owned: AlerterPartition, made: list[Notification]) -> None:
        while not self._ours() and self.owned.get(number) is owned:
            await self._commit()
            if not self._ours():
                await asyncio.sleep(TICK_S)
        if self.owned.get(number) is not owned:
            return  # its next owner decides the same
        await self._write(number, [(one.id, notifications.encode(one)) for one in made])
        for one in made:
            if one.state == MUTED:
                self._metrics.notification(one.channel, MUTED)
            else:
                self._hand_over(number, owned, one)

    def _hand_over(self, number: int, owned: AlerterPartition, notification: Notification) -> None:
        async def done(sent: Notification) -> None:
            await self._write(number, [(sent.id, notifications.encode(sent))])
            self._remember_reference(sent)
            owned.engine.done(sent)

        parcel = QueuedNotification(notification, done, lambda: self.owned.get(number) is owned)
        self.deliveries[notification.channel].put(parcel)

    def _remember_reference(self, notification: Notification) -> None:
        """The last one counts: a channel may have had to send a new message."""
        if notification.state != SENT:
            return
        for news in notification.news:
            key = notification.channel, news.event.episode
            if news.why == "closed":
                self._references.pop(key, None)
            elif notification.reference and len(notification.news) == 1:
                self._references[key] = notification.reference

    async def _write(self, number: int, records: list[tuple[str, bytes | None]]) -> None:
        """Write records; they are acknowledged when it returns."""
        topic = self._kafka.notifications_topic
        sent = [await self._producer.send(topic, value, id.encode(), number) for id, value in records]
        for future in sent:
            await future

    def _report(self, channel: str, down: bool, why: str) -> None:
        """Report through another channel, and through the channel log, that a channel is down or back."""
        words = f"Channel {channel} is down, and messages wait for it: {why}" if down else f"Channel {channel} is back"
        others = [name for name in self._channels if name != channel and not self.deliveries[name].status.failing_since]
        to_notify = dict.fromkeys(
            [*[name for name in others if name != "log"][:1], *(["log"] if "log" in others else [])]
        )
        for name in to_notify:
            notification = Notification(
                id=notification_id([name, channel, str(down), str(self._clock())]), state=QUEUED, channel=name,
                about="channel_down" if down else "channel_up", text=words, created_at=self._clock(),
            )  # fmt: skip

            async def done(sent: Notification) -> None:
                pass

            self.deliveries[name].put(QueuedNotification(notification, done, lambda: True))

    # --- decisions, refreshes, silences of receivers

    async def _read_all_decisions(self, options: dict[str, Any]) -> None:
        """Read the whole topic before anything is sent."""
        self._decisions = LogReader(
            group_id=None, enable_auto_commit=False, isolation_level="read_committed", **options
        )
        await self._decisions.start()
        topic = self._kafka.decisions_topic
        partitions = [TopicPartition(topic, n) for n in sorted(await _partitions(self._decisions, topic))]
        async for record in _read_to_end(self._decisions, partitions):
            self._decide(record)

    def _decide(self, record: Any) -> None:
        try:
            self.decided.take(record.key, record.value)
        except (AnomalyError, ValueError) as error:
            self._skip(record, str(error))

    async def _follow_decisions(self) -> None:
        while True:
            for records in (await self._decisions.getmany(timeout_ms=int(DECISIONS_EVERY_S * 1000))).values():
                for record in records:
                    self._decide(record)

    async def _refresh(self, channel: BaseChannel) -> None:
        while True:
            await asyncio.sleep(channel.REFRESH_S or 60.0)
            owned = [one for one in self.owned.values() if one.caught_up]
            try:
                await channel.refresh([event for one in owned for event in one.engine.open_for(channel.name)])
            except UNREACHED as error:  # sending messages finds out whether it is down
                log.warning("channel %s: open episodes were not sent again: %s", channel.name, error)

    async def _follow_silences(self, name: str, channel: BaseChannel) -> None:
        while True:
            try:
                self.decided.set_receiver_silences(name, await channel.silences())
            except UNREACHED as error:
                log.warning("channel %s: its silences cannot be read: %s", name, error)
            await asyncio.sleep(SILENCES_EVERY_S)


@asynccontextmanager
async def _reader(options: Mapping[str, Any]) -> AsyncIterator[LogReader]:
    reader = LogReader(group_id=None, enable_auto_commit=False, isolation_level="read_committed", **options)
    await reader.start()
    try:
        yield reader
    finally:
        await stopped(reader)


async def _partitions(reader: LogReader, topic: str) -> set[int]:
    """The topic exists: asks until the broker knows it."""
    reader.assign([TopicPartition(topic, 0)])  # has the client fetch what it needs to know
    while not (found := reader.partitions_for_topic(topic)):
        await asyncio.sleep(0.05)
    return found


async def _read_to_end(reader: LogReader, partitions: list[TopicPartition]) -> AsyncIterator[Any]:
    """Every record of these partitions, from the beginning to the present end; the position stays there."""
    reader.assign(partitions)
    await reader.seek_to_beginning(*partitions)
    ends = await reader.last_stable_offsets(partitions)
    while any([await reader.position(tp) < ends[tp] for tp in partitions]):
        for records in (await reader.getmany(timeout_ms=200, max_records=MAX_EVENTS)).values():
            for record in records:
                yield record
