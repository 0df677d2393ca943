"""Commits the offsets of this worker's partitions; an accepted commit also confirms that they are assigned to it.

A commit has two numbers for each partition (app/stream/ledger.py): the position as its offset, and the replay point in
its metadata, with the ids of the topics that it refers to. Commits of the hop of ``input.rekey`` have no replay point.
An accepted commit confirms the assignment for a limited time: the lease.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.errors import DeliveryError
from app.metrics import Metrics
from app.settings import KafkaSettings
from app.stream import failpoints
from app.stream.crash import DENIED, stop_process

METADATA_VERSION = 1
REKEYS = "rekeys"  # in the metadata of the hop of input.rekey, true
COMMITS_MAY_FAIL = 4  # in a row; each has the deadline of an acknowledgement
LEASE = 0.5  # of the session timeout: how long an accepted commit confirms the assignment
NEVER = -1e9  # on a clock of seconds
NOT_THE_OWNER = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)

log = logging.getLogger(__name__)


class CommitPoint(NamedTuple):
    """What is committed for one partition."""

    position: int  # every offset below it is answered
    metadata: Mapping[str, Any]  # without version and topic ids


class CommittedOffset(Protocol):
    """What the group has committed of one partition."""

    @property
    def offset(self) -> int: ...

    @property
    def metadata(self) -> str: ...


FetchCommitted = Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, CommittedOffset]]]


class Committable(Protocol):
    """What the committer needs of a partition."""

    @property
    def log(self) -> TopicPartition:
        """The partition that is read, and committed."""

    def to_commit(self) -> CommitPoint:
        """What to commit now."""

    def committed(self, point: CommitPoint) -> None:
        """The group has accepted this commit."""


def write_metadata(metadata: Mapping[str, Any], ids: Mapping[str, str]) -> str:
    """The metadata of a commit: ``CommitPoint.metadata``, and the ids of topics (see ``topic_ids``)."""
    return json.dumps({"v": METADATA_VERSION, **metadata, **ids}, separators=(",", ":"))


def read_metadata(text: str | None) -> dict[str, Any]:
    """The reverse. Raises ValueError for metadata that another program or version wrote."""
    found = json.loads(text or "{}")
    version = found.get("v") if isinstance(found, dict) else None
    if version != METADATA_VERSION:
        raise ValueError(f"version {version!r}")
    return dict(found)


def topic_ids(kafka: KafkaSettings, known: Mapping[str, str], topic: str = "") -> dict[str, str]:
    """Ids of the topics that a commit refers to, by role and where they are known.

    ``known``: topic -> id or ""; ``topic``: that of the commit, kafka.log_topic unless it is of the hop before it.
    """
    names = {"input": topic or kafka.log_topic, "changelog": kafka.changelog_topic}
    if topic and topic != kafka.log_topic:
        names = {"input": topic, "output": kafka.log_topic}
    return {role: found for role, name in names.items() if (found := known.get(name))}


class Committer:
    """Builds, sends and counts commits.

    Parameters
    ----------
    known_ids
        topic -> its id, "" when unknown; filled before the first commit.
    active
        The partitions that are recovered and assigned to this worker.
    send
        Sends offsets to the group; raises what aiokafka's ``commit`` raises.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        metrics: Metrics,
        known_ids: Mapping[str, str],
        active: Callable[[], Sequence[Committable]],
        send: Callable[[dict[TopicPartition, OffsetAndMetadata]], Awaitable[Any]],
    ) -> None:
        self.generation = -1  # of the group, when recovery last completed
        self.committed_at = NEVER  # time.monotonic() of the last accepted commit of this generation
        self._kafka = kafka
        self._metrics = metrics
        self._known_ids = known_ids
        self._active = active
        self._send = send
        self._failed = 0  # commits in a row
        self._confirming = asyncio.Lock()

    def begin(self, generation: int) -> None:
        """Partitions were recovered in this generation of the group: what it confirmed before is no longer valid.

        So a commit precedes each owner's first batch: results without one are the sign of a topic that was recreated.
        """
        self.generation = generation
        self.committed_at = NEVER

    async def confirm(self) -> None:
        """Return when the group accepted a commit within the lease, or no partition is active any more.

        A worker that was suspended for longer than its session and continues does not know that others own its
        partitions: it would score what it had fetched, and emit it again. A commit asks the group. That costs nothing
        in normal operation, because it is done only when the last commit is old.
        """
        lease_s = LEASE * self._kafka.session_timeout_s
        while time.monotonic() - self.committed_at > lease_s and self._active():
            async with self._confirming:
                if time.monotonic() - self.committed_at > lease_s and not await self.commit(self._active()):
                    await asyncio.sleep(0.1)  # refused: the rebalance that takes them from us is on its way

    async def commit(self, partitions: Iterable[Committable]) -> bool:
        """True when the group accepted it; commits that keep failing end the process.

        Only for partitions that are certainly assigned to this worker: the broker takes any member's commit for any
        partition.
        """
        points = {partition: partition.to_commit() for partition in partitions}
        offsets = {
            partition.log: OffsetAndMetadata(
                point.position, write_metadata(point.metadata, self._ids(partition.log.topic))
            )
            for partition, point in points.items()
        }
        if not offsets:
            return True
        failpoints.reach("before_commit")
        if not await self._accepted(offsets):
            return False
        for partition, point in points.items():
            partition.committed(point)
        return True

    def _ids(self, topic: str) -> dict[str, str]:
        return topic_ids(self._kafka, self._known_ids, topic)

    async def _accepted(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> bool:
        metrics, loop, generation = self._metrics, asyncio.get_running_loop(), self.generation
        began = loop.time()
        try:
            await asyncio.wait_for(self._send(offsets), self._kafka.ack_timeout_s)
        except NOT_THE_OWNER as error:
            metrics.commits["refused"].inc()
            log.info("commit refused, the group has moved on: %s", type(error).__name__)
            return False
        except DENIED as error:
            stop_process(error)
        except (KafkaError, TimeoutError) as error:
            self._failed += 1
            metrics.commits["failed"].inc()
            log.warning("commit failed: %r", error)
            if self._failed >= COMMITS_MAY_FAIL:
                self._give_up(error)
            return False
        failpoints.reach("after_commit")
        self._failed = 0
        metrics.commits["accepted"].inc()
        metrics.stage_duration["commit"].observe(loop.time() - began)
        if self.generation == generation:  # else it confirmed an earlier assignment
            self.committed_at = time.monotonic()  # uvloop's own time does not advance in a stopped process
        return True

    def _give_up(self, error: Exception) -> None:
        why = str(error) or f"no answer within {self._kafka.ack_timeout_s:g} s"
        stop_process(
            DeliveryError(
                f"{self._failed} commits in a row failed, the last by {type(error).__name__}: {why}. "
                "A consumer can lose its group for good when a broker restarts; a new process finds it again"
            )
        )
