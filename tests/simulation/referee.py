"""What must hold in the simulated broker: at every commit, and when all is over.

At the end it is the checker of the crash tests that decides, tests/integration/oracle.py: every result and dead letter
with its bytes, the order of each source, every source's state bit for bit. Here are only the rules that need to know
what happened: which repeats are excused, and that no accepted commit promised more than the broker held just then.
"""

import json
from collections import Counter
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition
from integration import oracle
from integration.logs import Logs
from simulation.broker import Broker, Record
from simulation.load import GAP, PARTITIONS, RAW, Given

from app.pipeline import Pipeline
from app.settings import Settings
from app.state import snapshot
from app.state.series import joined

Origin = tuple[int, int, int]  # partition, offset, index of a point in raw-data
UNFINISHED = (  # what a run may lack that ended with a refusal
    *("results missing", "letters missing", "episodes missing"),
    *("committed positions wrong", "replay points wrong"),
)


class Scored(NamedTuple):
    """A record of what is scored; not one that repeats an earlier one."""

    offset: int
    series: str
    points: list[Origin]


class Referee:
    """Sees everything that reaches the broker. ``faults`` stays empty when the promises hold."""

    def __init__(self, broker: Broker, settings: Settings, pipeline: Pipeline, at_commits: bool) -> None:
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()  # of what was compared
        self.seen: Counter[str] = Counter()  # record batches and commits that reached the broker, by kind
        self._broker, self._settings, self._pipeline = broker, settings, pipeline
        self._rekeys = settings.kafka.rekeys
        self._late: set[str] = set()  # results written, once at least, by a process that the group had put out
        # All there ever was.
        self.raw: list[list[Record]] = [[] for _ in range(RAW if self._rekeys else PARTITIONS)]
        self._by_source: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self._results: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self._given: list[Origin] = []
        self._scored: list[list[Scored]] = [[] for _ in range(PARTITIONS)]
        self._sorted: set[Origin] = set()  # by source
        self._emitted: set[Origin] = set()
        self._at_commits = at_commits
        broker.on_append = self._appended
        broker.group.on_commit = self._committed

    def produced(self, given: Given, now_s: float) -> None:
        """Put one record into raw-data."""
        log = self._broker.logs[self._settings.kafka.input_topic, given.partition]
        if given.key == GAP.encode():
            log.end += 1
            return
        offset = log.append([(given.key, given.value, (), int(now_s * 1000))])
        self.raw[given.partition].append(log.records[-1])
        points = [(given.partition, offset, index) for index in given.points]
        self._given += points
        if points and not self._rekeys:
            self._scored[given.partition].append(Scored(offset, given.series, points))

    def _appended(self, topic: str, number: int, first: int, sender: Any) -> None:
        kafka, late = self._settings.kafka, not self._broker.group.knows(sender)
        records = self._broker.logs[topic, number].read(first, 10**6)
        kind = {kafka.output_topic: "results", kafka.changelog_topic: "snapshots"}.get(topic, "others")
        self.seen[kind] += 1
        if kind == "results":
            self._results[number] += records
            for record in records:
                name = json.loads(record.value or b"")["id"]
                self._emitted.add(_origin(name.split(":", 1)[1]))
                if late:
                    self._late.add(name)
        elif topic == kafka.log_topic:
            self._by_source[number] += records
            for record in records:
                origin, said = _origin(record.headers[0][1].decode()), json.loads(record.value or b"")
                if origin not in self._sorted:
                    series = joined(said["source"], said.get("metric", ""))
                    self._scored[number].append(Scored(record.offset, series, [origin]))
                self._sorted.add(origin)

    def _committed(self, offsets: dict[TopicPartition, Any]) -> None:
        self.seen["commits"] += 1
        for log, commit in offsets.items() if self._at_commits else ():
            if log.topic == self._settings.kafka.log_topic:
                self._scored_to(log.partition, commit.offset, json.loads(commit.metadata)["replay"])
            elif left := [
                point for point in self._given
                if point[0] == log.partition and point[1] < commit.offset and point not in self._sorted
            ]:  # fmt: skip
                self._fault(f"position {commit.offset} of {log} is past {left[0]}, which is not there by source")

    def _scored_to(self, number: int, position: int, replay: int) -> None:
        after = self._settings.state.forget_after_records
        covered, last = self._covered(number), self._last(number, position)
        for one in self._scored[number]:
            if one.offset < position and not self._emitted.issuperset(one.points):
                self._fault(f"position {position} of {number} is past the unanswered {one.offset}")
            forgotten = last.get(one.series, one.offset) + after < position - 1
            if covered.get(one.series, -1) < one.offset < replay and not forgotten:
                self._fault(f"replay point {replay} of {number} is past the unsaved {one.offset}")

    def _covered(self, number: int) -> dict[str, int]:
        """Series -> offset that its highest snapshot covers, of those still in the log."""
        highest: dict[str, int] = {}
        for record in self._broker.logs[self._settings.kafka.changelog_topic, number].records:
            if record.value is not None:
                series, offset = snapshot.peek(record.value)
                highest[series] = max(offset, highest.get(series, -1))
        return highest

    def _last(self, number: int, end: int) -> dict[str, int]:
        """Series -> offset of its last point before this offset."""
        return {one.series: one.offset for one in self._scored[number] if one.offset < end}

    def _fault(self, text: str) -> None:
        if text not in self.faults:
            self.faults.append(text)

    def replay_point(self, log: TopicPartition) -> int:
        """By what the group committed; 0 when it did not. In the hop it is the position."""
        commit = self._broker.group.committed.get(log)
        return json.loads(commit.metadata).get("replay", commit.offset) if commit else 0

    @property
    def saved(self) -> bool:
        """Everything is answered and inside a snapshot, and the group knows."""
        return all(self.replay_point(log) == self._broker.logs[log].end for log in self._broker.group.partitions)

    def check(self, finished: bool) -> oracle.Report:
        """The checker's report; ``finished``: the run came to its end, not to a refusal."""
        kafka, logs = self._settings.kafka, self._broker.logs

        def whole(topic: str) -> list[list[Record]]:
            return [logs[topic, number].records for number in range(PARTITIONS)]

        found = Logs(
            raw=self.raw,
            results=self._results,
            letters=whole(kafka.dead_letters_topic),
            episodes=whole(kafka.anomalies_topic),
            changelog=whole(kafka.changelog_topic),
            committed=self._all_committed(kafka.log_topic),
            raw_ends=[logs[kafka.input_topic, number].end for number in range(len(self.raw))],
            by_source=self._by_source if self._rekeys else None,
            rekeyed=self._all_committed(kafka.input_topic) if self._rekeys else {},
        )
        expected = oracle.expect(self._settings, self.raw, self._pipeline, found.by_source)
        report = oracle.check(expected, found, saved=finished)
        self.counts["duplicates"] += sum(map(len, self._by_source)) - len(self._sorted)
        self.counts.update(report.counts)
        self.counts["results repeated"] += len(report.get("results repeated", ()))
        report["results repeated"] = [name for name in report.get("results repeated", ()) if name not in self._late]
        excused = () if finished else UNFINISHED
        for kind, ids in report.faults.items():
            if kind not in excused:
                self._fault(f"{kind}: {', '.join(ids)}")
        return report

    def _all_committed(self, topic: str) -> dict[int, tuple[int, str]]:
        committed = self._broker.group.committed.items()
        return {log.partition: (commit.offset, commit.metadata) for log, commit in committed if log.topic == topic}


def _origin(text: str) -> Origin:
    """Of partition:offset:index and maybe more."""
    partition, offset, index = text.split(":")[:3]
    return int(partition), int(offset), int(index)
