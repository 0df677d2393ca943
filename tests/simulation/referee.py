"""What must hold in the simulated broker: at every commit, and when all is over.

At the end it is the checker of the crash tests that decides, tests/integration/oracle.py: every result and dead letter
with its bytes, the order of each source, every source's state bit for bit. Here are only the rules that need to know
what happened: which repeats are excused, and that no accepted commit promised more than the broker held just then.
"""

import json
from collections import Counter
from typing import Any

from integration import oracle
from integration.logs import Logs
from simulation.broker import Broker, Record
from simulation.load import GAP, PARTITIONS, Given

from app.pipeline import Pipeline
from app.settings import Settings
from app.state import snapshot

UNFINISHED = (  # what a run may lack that ended with a refusal
    *("results missing", "letters missing", "episodes missing"),
    *("committed positions wrong", "replay points wrong"),
)


class Referee:
    """Sees everything that reaches the broker. ``faults`` stays empty when the promises hold."""

    def __init__(self, broker: Broker, settings: Settings, pipeline: Pipeline, at_commits: bool) -> None:
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()  # of what was compared
        self.seen: Counter[str] = Counter()  # record batches and commits that reached the broker, by kind
        self.raw: list[list[Record]] = [[] for _ in range(PARTITIONS)]  # all there ever was
        self._late: set[str] = set()  # results written, once at least, by a process that the group had put out
        self._given: list[dict[int, Given]] = [{} for _ in range(PARTITIONS)]
        self._results: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self._emitted: list[set[tuple[int, int]]] = [set() for _ in range(PARTITIONS)]
        self._broker, self._settings, self._pipeline = broker, settings, pipeline
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
        self._given[given.partition][offset] = given

    def _appended(self, topic: str, number: int, first: int, sender: Any) -> None:
        kafka, late = self._settings.kafka, not self._broker.group.knows(sender)
        records = self._broker.logs[topic, number].read(first, 10**6)
        kind = {kafka.output_topic: "results", kafka.changelog_topic: "snapshots"}.get(topic, "others")
        self.seen[kind] += 1
        if kind == "results":
            self._results[number] += records
            for record in records:
                name = json.loads(record.value or b"")["id"]
                _, _, offset, index = name.rsplit(":", 3)
                self._emitted[number].add((int(offset), int(index)))
                if late:
                    self._late.add(name)

    def _committed(self, offsets: dict[int, Any]) -> None:
        self.seen["commits"] += 1
        after = self._settings.state.forget_after_records
        for number, commit in offsets.items() if self._at_commits else ():
            replay = json.loads(commit.metadata)["replay"]
            covered, last = self._covered(number), self._last(number, commit.offset)
            for offset, given in self._given[number].items():
                points = [point for point in given.points if (offset, point) not in self._emitted[number]]
                if points and offset < commit.offset:
                    self._fault(f"position {commit.offset} of {number} is past the unanswered {offset}")
                forgotten = last.get(given.series, offset) + after < commit.offset - 1
                if given.points and covered.get(given.series, -1) < offset < replay and not forgotten:
                    self._fault(f"replay point {replay} of {number} is past the unsaved {offset}")

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
        return {given.series: offset for offset, given in self._given[number].items() if given.points and offset < end}

    def _fault(self, text: str) -> None:
        if text not in self.faults:
            self.faults.append(text)

    def replay_point(self, number: int) -> int:
        """By what the group committed; 0 when it did not."""
        commit = self._broker.group.committed.get(number)
        return json.loads(commit.metadata)["replay"] if commit else 0

    @property
    def saved(self) -> bool:
        """Everything is answered and inside a snapshot, and the group knows."""
        return all(self.replay_point(number) == end for number, end in enumerate(self._ends))

    @property
    def _ends(self) -> list[int]:
        """Of raw-data, gaps at the end included."""
        return [self._broker.logs[self._settings.kafka.input_topic, number].end for number in range(PARTITIONS)]

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
            committed={n: (commit.offset, commit.metadata) for n, commit in self._broker.group.committed.items()},
            raw_ends=self._ends,
        )
        report = oracle.check(oracle.expect(self._settings, self.raw, self._pipeline), found, saved=finished)
        self.counts.update(report.counts)
        self.counts["results repeated"] += len(report.get("results repeated", ()))
        report["results repeated"] = [name for name in report.get("results repeated", ()) if name not in self._late]
        excused = () if finished else UNFINISHED
        for kind, ids in report.faults.items():
            if kind not in excused:
                self._fault(f"{kind}: {', '.join(ids)}")
        return report
