"""The order of the runs, and what counts as failed."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from tests.bench import bad, job, latency, point, recovery, report, start, throughput
from tests.bench.check import Verdict
from tests.bench.cluster import Cluster
from tests.bench.contestants import CONTESTANTS, Contestant, Run
from tests.bench.processes import WorkerFailed
from tests.bench.progress import say

T = TypeVar("T")
RATE_PER_S = 2000.0  # of the runs under load; what the slowest contestant keeps up with
SOURCES = (1000, 20_000)


class Bench:
    """Contestants take turns within each round, so that a noisy minute of the machine hits all of them."""

    def __init__(self, records: int, rounds: int, latency_s: float, entrants: list[Contestant]) -> None:
        self.records, self.rounds, self.latency_s, self.entrants = records, rounds, latency_s, entrants
        self.cluster: Cluster
        self.directory: Path
        self.failures: list[str] = []
        self._made = 0
        self._filled: dict[tuple[int, int, bool], str] = {}  # (sources, records, nested) -> topic

    async def start(self) -> str:
        runs = []
        for _ in range(self.rounds):
            say("first start, cold and warm")
            run = await self._run(CONTESTANTS[0])
            if result := await self._tried(start.measure(run)):
                say(f"  ready after {result.cold_s:.1f} s, when compiled before after {result.warm_s:.1f} s")
                runs.append(result)
        return report.start_table(runs)

    async def throughput(self) -> str:
        runs = []
        for _ in range(self.rounds):
            for sources in SOURCES:
                for contestant in self.entrants:
                    say(f"throughput, {sources:,} sources: {contestant.name}")
                    waiting = await self._waiting(sources, int(self.records * contestant.share), contestant.nested)
                    run = await self._run(contestant, waiting)
                    if result := await self._tried(throughput.measure(self.cluster, contestant, run, sources)):
                        say(f"  {result.rate:,.0f} records/s, {result.cpu_s_per_million:.1f} CPU s per million")
                        self._judge(contestant, result.verdict, result.lag, required=True)
                        runs.append(result)
        notes = [f"{c.name}: {c.note}." for c in self.entrants if c.note]
        notes.append(f"Memory with {SOURCES[-1]:,} sources, other columns with {SOURCES[0]:,}.")
        title = "Throughput of one worker, all records waiting in the topic:"
        return "\n\n".join([title, report.throughput_table(runs), " ".join(notes)])

    async def latency(self) -> str:
        runs = []
        for contestant in (entrant for entrant in self.entrants if not entrant.nested):
            say(f"latency: {contestant.name}")
            run = await self._run(contestant)
            if result := await self._tried(latency.measure(self.cluster, contestant, run, RATE_PER_S, self.latency_s)):
                self._judge(contestant, result.verdict, 0, required=True)
                runs.append(result)
        return "Latency, from the time a record is due until a reader has its result:\n\n" + report.latency_table(runs)

    async def recovery(self) -> str:
        runs = []
        for contestant in (entrant for entrant in self.entrants if entrant.compared and not entrant.nested):
            for workers in (1, 2):
                say(f"recovery, kill -9 one of {workers}: {contestant.name}")
                run = await self._run(contestant)
                if result := await self._tried(recovery.measure(self.cluster, contestant, run, workers, RATE_PER_S)):
                    say(f"  back after {result.back_s:.1f} s")
                    self._judge(contestant, result.verdict, result.lag, required=contestant.promises)
                    runs.append(result)
        return (
            f"kill -9 at {RATE_PER_S:,.0f} records/s, session timeout 10 s; a single worker is started again "
            f"at once:\n\n{report.recovery_table(runs)}"
        )

    async def point(self) -> str:
        say("one point without Kafka")
        steps = await asyncio.to_thread(point.measure_steps)
        codec = await asyncio.to_thread(point.measure_codec)
        return (
            "One point without Kafka, one thread (models of River are in the snapshot only):\n\n"
            + report.point_table(steps, *codec)
            + "\n\nCPU time for one record of 1 MB that cannot be read:\n\n"
            + report.bad_table(await asyncio.to_thread(bad.measure_bad))
        )

    async def _run(self, contestant: Contestant, input_topic: str = "") -> Run:
        """Topics and group for one more run; an empty input topic unless one is given."""
        self._made += 1
        tag = f"bench-{int(time.time())}-{self._made}"
        directory = self.directory / tag
        directory.mkdir()
        if not input_topic:
            await self.cluster.create(input_topic := f"{tag}-raw")
        await self.cluster.create(output := f"{tag}-results", stamp_on_append=True)
        run = Run(self.cluster.broker, input_topic, output, tag, directory)
        if contestant.topics:
            argv, environment = contestant.topics(run)
            await asyncio.to_thread(subprocess.run, argv, env=environment, check=True, stdout=subprocess.DEVNULL)
        return run

    async def _waiting(self, sources: int, records: int, nested: bool) -> str:
        """A topic that holds the records; made once."""
        if (sources, records, nested) not in self._filled:
            topic = f"bench-{int(time.time())}-{sources}-sources-{records}{'-nested' * nested}"
            await self.cluster.create(topic)
            await self.cluster.fill(topic, job.records(records, sources, nested))
            self._filled[sources, records, nested] = topic
        return self._filled[sources, records, nested]

    async def _tried(self, measuring: Awaitable[T]) -> T | None:
        """None when the contestant gave up: that is told and counts as failed, and the others go on."""
        try:
            return await measuring
        except WorkerFailed as failure:
            say(f"  {failure}  <-- FAILED")
            self.failures.append(str(failure))
            return None

    def _judge(self, contestant: Contestant, verdict: Verdict, lag: int, required: bool) -> None:
        fine = (verdict.exact if contestant.compared else verdict.complete) and lag == 0
        say(f"  {verdict}; lag {lag}{'' if fine else '  <-- FAILED' if required else '  (not required of it)'}")
        if required and not fine:
            self.failures.append(f"{contestant.name}: {verdict}; lag {lag}")
