"""Rounds of faults on one cluster, each with a job, workers and a load of its own, and the checker at its end."""

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from chaos.cluster import Cluster
from chaos.faults import Chaos, Tally
from chaos.plan import Round, kinds
from chaos.pulse import Pulse
from integration.load import Load
from integration.oracle import Report
from integration.run import Run
from support import kafka_tools
from support.jobs import Job

from app.kafka import topics
from app.stream.takeover import WHOLE

RAW = 7  # partitions of raw-data where they may be others than those of the results


class Campaign:
    """Rounds on one cluster, each followed by the checker.

    ``say`` is told of every step; ``static``: workers have names of their own in the group; ``every_s``: of the load.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: Path,
        seed: int,
        per_s: float,
        session_s: float,
        real: Mapping[str, list[bytes]] | None = None,
        say: Callable[[str], None] = print,
        static: bool = False,
        every_s: float = 0.004,
        fetch_max_wait_ms: int | None = None,
    ) -> None:
        self.tally = Tally()
        self._cluster, self._directory, self._seed, self._per_s = cluster, directory, seed, per_s
        self._real, self._say = real or {}, say
        self._kafka: dict[str, float] = {"session_timeout_s": session_s}
        if fetch_max_wait_ms is not None:
            self._kafka["fetch_max_wait_ms"] = fetch_max_wait_ms
        self._static, self._every_s = static, every_s

    def play(self, each: Round) -> Tally:
        """One round: load, faults, the end in peace, the checker."""
        rng = random.Random(f"{self._seed} {each.number}")
        job = Job.of(f"chaos {each.number}", self._cluster.kafka.bootstrap_servers)
        name, servers = job.name, job.servers
        directory = self._directory / name
        directory.mkdir()
        self._say(
            f"{name}: {each.partitions} partitions, {each.records:,} records, {dict(kinds(each.faults))}"
            f"{', the cleaner at work' if each.compacts else ''}{', records without keys' if each.rekeys else ''}, "
            f"{each.detection or 'the usual detectors'}"
        )
        sections = {"kafka": self._kafka, "detection": each.detection}
        with Run(job, directory, **sections, input={"rekey": each.rekeys}) as run:
            run.make_topics(each.partitions, each.compacts, RAW if each.rekeys else None)
            with Pulse([servers], run.kafka.output_topic, each.partitions) as pulse:
                chaos = Chaos(self._cluster, run, pulse, rng, self._static)
                tally = chaos.tally
                try:
                    self._disturb(each, run, chaos)
                    self._judge(each, run, run.check(), tally)
                except (AssertionError, TimeoutError) as error:  # of this round; the others may say more
                    self._say(f"  {error}")
                    tally.wrong[str(directory)] = repr(error)[-2000:]
                    self._cluster.mend()
        if not tally.wrong:
            asyncio.run(kafka_tools.adelete_topics(servers, *topics.names(run.kafka)))
            shutil.rmtree(directory)
        self.tally.add(tally)
        return tally

    def _disturb(self, each: Round, run: Run, chaos: Chaos) -> None:
        rng = random.Random(f"{self._seed} {each.number} load")
        chaos.begin()
        began = time.monotonic()
        with Load(
            run.kafka.bootstrap_servers, run.kafka.input_topic, RAW if each.rekeys else each.partitions, self._per_s,
            rng.randrange(2**32), real=self._real, keyed=not each.rekeys, every_s=self._every_s,
        ) as load:  # fmt: skip
            for number, fault in enumerate(each.faults, 1):
                time.sleep(rng.uniform(0.2, 1.5))
                chaos.apply(fault)
                self._say(
                    f"  {time.monotonic() - began:6.1f} s  {number}/{len(each.faults)} {fault:30} "
                    f"{load.handed:9,} records, {chaos.results:9,} results, {chaos.size} workers"
                )
            chaos.finish()
            until = time.monotonic() + 2.0 * each.records / self._per_s + 60.0
            while load.handed < each.records and time.monotonic() < until:
                chaos.mend()
                time.sleep(0.2)
            chaos.tally.records = load.stop()
        run.until_saved(chaos.mend)
        chaos.all_owned(each.partitions)

    def _judge(self, each: Round, run: Run, report: Report, tally: Tally) -> None:
        tally.counts = report.counts
        if each.may_repeat:
            tally.repeated = len(report.pop("results repeated", []))
        tally.found.update({kind: len(ids) for kind, ids in report.items()})
        recoveries = [recovery for worker in run.workers for recovery in worker.recoveries]
        tally.inside_a_batch = sum(index < WHOLE for *_, index in recoveries)
        tally.replays = sum(mark >= begin and end > begin for _, _, begin, end, mark, _ in recoveries)
        if report.faults:
            tally.wrong[str(run.config.parent)] = report.faults
        self._say(
            f"  {tally.records:,} records, {tally.counts['results']:,} results, {tally.repeated} repeated by workers "
            f"beyond their session, {tally.inside_a_batch} restarts inside a batch: {report.faults or 'nothing wrong'}"
        )
