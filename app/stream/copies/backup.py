"""Makes a copy."""

from datetime import UTC, datetime
from pathlib import Path

from aiokafka.structs import TopicPartition

from app import __version__
from app.errors import StateError
from app.kafka import topics
from app.kafka.log_reader import LogReader
from app.settings import KafkaSettings, Settings
from app.state import snapshot
from app.stream.copies import group
from app.stream.copies.file import Commit, CopyWriter, Head
from app.stream.copies.group import Commits, CopyResult


async def backup(settings: Settings, path: Path) -> CopyResult:
    """Write a copy of the group's state to a new file. Workers may run.

    Raises
    ------
    TopicError
        Topics do not fit, or the brokers cannot be reached.
    StateError
        A snapshot is damaged.
    FileExistsError
        There is a file.
    """
    kafka = settings.kafka
    found = await topics.require(settings)
    copied = [kafka.changelog_topic, *(name for name in group.of_alerting(kafka) if name in found)]
    result = CopyResult()
    async with group.reader(kafka) as reader:
        commits = await group.commits(kafka)
        head = Head(
            program=__version__,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            group=kafka.group_id,
            log=kafka.log_topic,
            input=kafka.input_topic,
            partitions=found[kafka.log_topic].partitions,
            topics=copied,
            ids={name: found[name].id for name in (kafka.log_topic, kafka.changelog_topic)},
            commits=[Commit(tp.topic, tp.partition, of.offset, of.metadata) for tp, of in sorted(commits.items())],
        )
        with path.open("xb") as file:
            writer = CopyWriter(file, head)
            for topic in copied:
                async for record in group.whole(reader, group.partitions(topic, found)):
                    value = record.value
                    if topic == kafka.changelog_topic and value is not None:
                        try:
                            snapshot.peek(value)
                        except StateError as error:
                            raise StateError(f"{topic}[{record.partition}]@{record.offset}: {error}") from error
                    writer.add(topic, record.partition, record.timestamp, record.key, value)
                    result.records[topic] += 1
            not_drained = await _not_drained(kafka, reader, commits, group.partitions(kafka.log_topic, found))
            writer.end(not_drained)
            result.bytes = writer.bytes
    if not_drained:
        result.remarks.append(f"It can be put back before the same {kafka.log_topic} only, as {not_drained}")
    return result


async def _not_drained(kafka: KafkaSettings, reader: LogReader, commits: Commits, logs: list[TopicPartition]) -> str:
    """Why there may be points that no snapshot holds; "" when there are none."""
    members = await group.members(kafka)
    if members:
        return f"the group {kafka.group_id} has {members} at work"
    now, ends = await group.commits(kafka), await reader.end_offsets(logs)
    for tp, end in ends.items():
        commit = commits.get(tp)
        if commit is None and not end:
            continue
        replay = -1 if commit is None else group.replay_point(commit)
        if commit is None or not commit.offset == replay == end or now.get(tp) != commit:
            where = f"{tp.topic}[{tp.partition}] ends at {end}"
            if commit is None:
                return f"{where} and nothing of it is committed"
            return f"{where}, the group has answered to {commit.offset} and saved to {replay}"
    return ""
