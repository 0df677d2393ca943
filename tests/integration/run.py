"""One run of a test: a job with topics, a settings file and workers, from start to the question what it left."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from integration import logs, oracle
from integration.fork_server import DETECTION
from integration.workers import PROGRAM, Worker, wait_for
from support import kafka_tools

from app.kafka import topics
from app.settings import Settings, load

PARTITIONS = 4
SECTIONS: dict[str, dict[str, Any]] = {
    "kafka": {"session_timeout_s": 2.0},
    "state": {"snapshot_every": 64, "replay_records": 3000, "idle_snapshot_s": 0.5},
    "dashboard": {"port": 0},
    # A group of its own and a database beside each worker: tests that are about them say so.
    "alerting": {"enabled": False},
    "storage": {"enabled": False},
    # Without novelty, which opens few episodes: a crash between an episode and its result shall be met often.
    "detection": DETECTION,
}
CLEANED = {
    "cleanup_policy": "compact",
    "segment_ms": "1000",
    "min_cleanable_dirty_ratio": "0.01",
    "delete_retention_ms": "100",
    "max_message_bytes": str(8 << 20),
}


class Run:
    """A job and its worker processes; as a context, it leaves none behind.

    ``job`` is tests/conftest.py's; ``sections`` are settings over those of a quick test (SECTIONS).
    """

    def __init__(self, job: Any, directory: Path, **sections: dict[str, Any]) -> None:
        merged = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in {**SECTIONS, **sections}}
        self.config = directory / "anomaly.yaml"
        self.config.write_text(yaml.safe_dump(job.overrides(**merged)))
        self.settings: Settings = load(self.config, {})
        self.job = job
        self.kafka = self.settings.kafka
        self.workers: list[Worker] = []
        self._directory = directory

    def make_topics(self, partitions: int = PARTITIONS, compacts: bool = False, raw: int | None = None) -> Self:
        """``compacts``: the cleaner takes the changelog up every second, without any delay of its own.

        ``raw``: partitions of raw-data, where it may have others.
        """
        if raw:
            kafka_tools.create_topic(self.kafka.bootstrap_servers[0], self.kafka.input_topic, raw)
            kafka_tools.create_topic(self.kafka.bootstrap_servers[0], self.kafka.output_topic, partitions)
        if compacts:
            kafka_tools.create_topic(self.kafka.bootstrap_servers[0], self.kafka.changelog_topic, partitions, **CLEANED)
        asyncio.run(topics.create(self.settings, partitions))
        return self

    def start(self, program: Sequence[str] = PROGRAM, **environ: str) -> Worker:
        """A new process of the command ``worker``; does not wait for anything."""
        self._latest = program, environ
        log = self._directory / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(log, [*program, "worker", "--config", str(self.config)], environ))
        return self.workers[-1]

    def revive(self) -> Worker:
        """The worker that was started last; another in its place where it ended by itself, as a supervisor does it.

        With sessions of two seconds, a slow machine makes workers lose theirs, and end without a commit.
        """
        if self.workers[-1].code == 70:
            program, environ = self._latest
            self.start(program, **environ)
        return self.workers[-1]

    def until(self, condition: Callable[[Worker], Any]) -> Worker:
        """Wait until this is true of the worker that was started last, or of one in its place; returns that one."""
        wait_for(lambda: condition(self.revive()), self._told)
        return self.workers[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.code is None:
                worker.kill()

    def lag(self) -> int:
        """Records past the committed positions, as lag tools count them."""
        lag = 0
        for topic in dict.fromkeys([self.kafka.input_topic, self.kafka.log_topic]):  # that before the hop first
            committed = logs.committed(self.kafka, topic)
            ends = logs.ends(self.kafka, topic)
            lag += sum(end - committed.get(number, (0, ""))[0] for number, end in enumerate(ends))
        return lag

    def until_done(self) -> None:
        """Wait until the lag is 0."""
        wait_for(lambda: self.lag() == 0, lambda: f"lag {self.lag()}\n{self._told()}", every_s=0.25)

    def until_saved(self, meanwhile: Callable[[], Any] = lambda: None) -> None:
        """Wait until the lag is 0 and the replay point is the end: idle, and everything saved."""

        def saved() -> bool:
            meanwhile()
            if self.lag():
                return False
            committed = logs.committed(self.kafka)
            ends = logs.ends(self.kafka, self.kafka.log_topic)
            return all(
                n in committed and (committed[n][0], logs.replay_point(committed[n])) == (end, end)
                for n, end in enumerate(ends)
                if end
            )

        wait_for(saved, lambda: f"{logs.committed(self.kafka)}\n{self._told()}", every_s=0.25)

    def check(self, saved: bool = True) -> oracle.Report:
        """What stands in the broker against what the oracle says."""
        found = logs.read(self.kafka)
        return oracle.check(oracle.expect(self.settings, found.raw, by_source=found.by_source), found, saved)

    def _told(self) -> str:
        return "\n".join(
            f"{worker.log}: code {worker.code}\n" + "\n".join(worker.said.splitlines()[-8:])
            for worker in self.workers[-3:]
        )
