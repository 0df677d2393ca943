"""What all partitions of one worker share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import Settings
from app.stream.committer import Committer
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.outbox import Outbox
from app.stream.state_table import StateTable


@dataclass
class Job:
    """The parts of one worker that its partitions use."""

    settings: Settings
    pipeline: Pipeline
    metrics: Metrics
    table: StateTable
    outbox: Outbox
    committer: Committer
    dead_letter_log: DeadLetterLog
    log_start: Callable[[TopicPartition], Awaitable[int]]  # first offset still there
    partitions_of: dict[str, int] = field(default_factory=dict)  # topic -> its number of partitions
    topic_ids: dict[str, str] = field(default_factory=dict)  # topic -> its id at the start, "" when unknown
    limits: dict[str, int] = field(default_factory=dict)  # topic -> bytes of the largest record batch, where known
    time_units: set[str] = field(default_factory=set)  # of numeric timestamps, found out and said in the log
