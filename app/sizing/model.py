"""Workers, memory, partitions, topics and traffic for a load. Pure: no clock, files or network.

A worker is one process and uses little more than one core, so a load is spread over workers. Of one worker:

cost of a record, us     record_us + its detectors, each for every metric + vector_us, if it has several metrics,
                         + metric_us (metrics - 1) + tenfold_us log10(series / 1,000) + q snapshot_us_kb kB + rekey_us
q, snapshots a record    1 / snapshot_every where a series has many points within replay_records of its partition;
                         else s / (s + replay_records), s being the series of a partition
CPU time, cores          idle + view + batch_cores batches/s ** batch_power (4 / p) ** partition_power
                         + records/s x cost, at most usable_cores
capacity, records/s      at which that is usable_cores, with batches of full_batch records
load                     records/s by capacity. Below a full load a worker takes small batches, so that its CPU time is
                         larger than its load: with 4 partitions it is half busy at a few per cent of its capacity.
batches/s                p b (1 - exp(-records/s / p b)), p being its partitions, b the batches/s one of them can have:
                         all there are while records come one by one
memory                   base + view + series x (rows + models + series_bytes) + partitions x backlog_mb
catching up, s           outage x load / (1 - load), at the mean rate

Bytes in topics are those of the footprint at the batch size that the rate gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from app.errors import ConfigurationError
from app.kafka.topics import CHANGELOG_SEGMENT_BYTES, DIRTY, WEEK_MS
from app.settings import Settings
from app.sizing.footprint import Footprint
from app.sizing.measured import Measured

DAY_S = 86_400.0
MEMORY_ROOM = 1.25  # of the limit, beside what is calculated
LEAST_PARTITIONS = 4  # as `faust-anomaly topics --create` makes
MOST_WORKERS = 1000
VIEW_FETCHED_PER_S = 4 * 65_536  # bytes of a partition that a view reads: app/web/topics/topic_reader.py
EPISODES_PER_1000 = 0.27  # points, with the default set on the Numenta benchmark's normal points: docs/detection.md
EPISODE_EVENTS = 3  # opened, changed, closed
EPISODE_BYTES = 1500  # of the history, with two messages: docs/operations.md
WEEK_DAYS = WEEK_MS / 1000 / DAY_S  # all events are kept so long, and records in the topic by source


@dataclass(frozen=True)
class Need:
    """The load.

    ``records_per_s`` is the mean, ``peak_per_s`` the most for minutes, None: the mean; ``record_bytes`` value and key
    of a record before it is packed, None: of the plain shape; ``headroom`` the part of all workers' capacity that is
    free at the peak, 0..1; ``speed`` of a core beside the one that was measured; ``producer_codec`` of raw-data.
    """

    records_per_s: float
    series: int
    metrics: int = 1
    peak_per_s: float | None = None
    record_bytes: float | None = None
    raw_days: float = 7.0
    results_days: float = 7.0
    copies: int = 3
    headroom: float = 0.4
    speed: float = 1.0
    producer_codec: str = "none"
    view: bool = False
    partitions: int | None = None
    episodes_per_1000: float = EPISODES_PER_1000

    @property
    def peak(self) -> float:
        return self.records_per_s if self.peak_per_s is None else self.peak_per_s


@dataclass(frozen=True)
class SizingFigure:
    """One calculated figure. ``rests_on``: what it is calculated from."""

    name: str
    value: float
    unit: str
    rests_on: str


@dataclass
class Sizes:
    figures: list[SizingFigure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, rests_on: str) -> float:
        self.figures.append(SizingFigure(name, value, unit, rests_on))
        return value

    def __getitem__(self, name: str) -> float:
        return next(figure.value for figure in self.figures if figure.name == name)


@dataclass(frozen=True)
class Model:
    """One job: what was measured, the footprint and the settings of its state."""

    of: Measured
    foot: Footprint
    settings: Settings

    def scoring_us(self) -> float:
        """Of the detectors, for a record with all its metrics. Raises ConfigurationError for one nobody measured."""
        total = 0.0
        for method, count in self.foot.methods.items():
            if method in self.of.kernels_us:
                us = self.of.kernels_us[method]
            elif method in self.of.adapters:
                us = self.of.adapters[method].us
            else:
                raise ConfigurationError(
                    f"size: expected detectors whose cost is known, got {method!r}, whose cost depends on its steps: "
                    "measure a worker with it, or leave it out and add what it takes"
                )
            total += us * count
        return total * self.foot.metrics

    def snapshots_per_record(self, series: float, partitions: float) -> float:
        state, of_partition = self.settings.state, series / partitions
        return max(1.0 / state.snapshot_every, of_partition / (of_partition + state.replay_records))

    def record_us(self, series: float, partitions: float, speed: float = 1.0) -> float:
        """CPU time of a record with its snapshots, in a worker with so many series and partitions."""
        cpu = self.of.cpu
        snapshot_us = cpu.snapshot_us_kb * self.foot.snapshot / 1000
        cost = cpu.record_us + self.scoring_us()
        cost += cpu.vector_us * (self.foot.metrics > 1) + cpu.metric_us * (self.foot.metrics - 1)
        cost += cpu.tenfold_us * math.log10(max(series, 1000.0) / 1000.0)
        cost += self.snapshots_per_record(series, partitions) * snapshot_us
        cost += cpu.rekey_us if self.settings.input.rekey else 0.0
        return cost / speed

    def fixed_cores(self, partitions: float, view: bool, speed: float = 1.0) -> float:
        """CPU time at any rate."""
        cpu = self.of.cpu
        more = cpu.idle_partition_cores * max(0.0, partitions - LEAST_PARTITIONS) + cpu.view_cores * view
        return (cpu.idle_cores + more) / speed

    def capacity(self, series: float, partitions: float, view: bool, speed: float = 1.0) -> float:
        """Records/s that one worker scores while more wait."""
        cpu = self.of.cpu
        low, high = 0.0, 1e7
        for _ in range(60):
            rate = (low + high) / 2
            used = self._used(rate, series, partitions, view, speed, rate / cpu.full_batch)
            low, high = (rate, high) if used < cpu.usable_cores else (low, rate)
        return low

    def batches_per_s(self, per_s: float, partitions: float) -> float:
        cpu = self.of.cpu
        most = partitions * (cpu.rekey_batches_per_s if self.settings.input.rekey else cpu.batches_per_s)
        return most * -math.expm1(-per_s / most)

    def cores(
        self,
        per_s: float,
        series: float,
        partitions: float,
        view: bool,
        speed: float = 1.0,
        batches_per_s: float | None = None,
    ) -> float:
        """CPU time that one worker uses, s a second. ``batches_per_s`` where that is known."""
        batches = self.batches_per_s(per_s, partitions) if batches_per_s is None else batches_per_s
        return min(self.of.cpu.usable_cores, self._used(per_s, series, partitions, view, speed, batches))

    def _used(
        self, per_s: float, series: float, partitions: float, view: bool, speed: float, batches_per_s: float
    ) -> float:
        cpu = self.of.cpu
        each = cpu.batch_cores + (cpu.rekey_batch_cores if self.settings.input.rekey else 0.0)
        shared = (LEAST_PARTITIONS / max(partitions, LEAST_PARTITIONS)) ** cpu.partition_power
        batches = each * batches_per_s**cpu.batch_power * shared / speed
        records = per_s * self.record_us(series, partitions, speed) / 1e6
        return self.fixed_cores(partitions, view, speed) + batches + records

    def series_bytes(self) -> float:
        """Of one series in memory."""
        models = sum(
            count * self.of.adapters[method].bytes
            for method, count in self.foot.methods.items()
            if method in self.of.adapters
        )
        return self.foot.row + self.foot.metrics * models + self.of.memory.series_bytes

    def memory_mb(self, series: float, partitions: float, view: bool) -> float:
        """Resident, while records wait in all its partitions."""
        memory = self.of.memory
        shown = memory.view_mb if view else 0.0
        shown += memory.libraries_mb if any(method in self.of.adapters for method in self.foot.methods) else 0.0
        return memory.base_mb + shown + series * self.series_bytes() / 1e6 + partitions * memory.backlog_mb

    def result_bytes(self, batch: float) -> float:
        """Of a result in the log, in a batch of so many."""
        return between(self.foot.packed_result, batch)

    def changelog_records(self, series: float, partitions: float) -> float:
        """Snapshots in the log: the last of each series, old ones, and the segment of each partition in use."""
        return series / (1.0 - DIRTY) + partitions * CHANGELOG_SEGMENT_BYTES / self.foot.packed_snapshot

    def recovery_s(self, series: float, partitions: float, speed: float) -> float:
        """Of one worker that takes over so many partitions with so many series in all."""
        restart, state = self.of.restart, self.settings.state
        found = self.changelog_records(series, partitions)
        read = found * (restart.series_us + self.foot.snapshot * restart.byte_ns / 1000)
        replayed = partitions * state.replay_records * restart.replay_us
        return (read + replayed) / speed / 1e6


def between(known: dict[int, float], n: float) -> float:
    """Bytes of a record in a batch of n, from those in other batches; of the nearest beyond.

    A batch has bytes of its own, which its records share: so it is a line in 1 / n.
    """
    marks = sorted(known)
    if n <= marks[0]:
        return known[marks[0]]
    for low, high in pairwise(marks):
        if n <= high:
            share = (1.0 / n - 1.0 / high) / (1.0 / low - 1.0 / high)
            return known[high] + share * (known[low] - known[high])
    return known[marks[-1]]


def size(need: Need, model: Model) -> Sizes:
    """Calculate what a load needs.

    Raises ConfigurationError where the load cannot be met, or a value of ``need`` is out of its range.
    """
    check(need)
    sizes, of = Sizes(), model.of
    workers, partitions = _workers(need, model)
    per_worker, series = partitions / workers, need.series / workers
    capacity = model.capacity(series, per_worker, need.view, need.speed)
    load, peak_load = need.records_per_s / workers / capacity, need.peak / workers / capacity
    _of_workers(sizes, need, model, workers, partitions, capacity)
    _restarts(sizes, need, model, workers, partitions, load)
    _topics(sizes, need, model, workers, partitions)
    _doubt(sizes, need, model, workers, partitions)
    if workers > 1 and peak_load * workers / (workers - 1) >= 1.0:
        sizes.warnings.append(
            f"with one worker of {workers} lost the others have {peak_load * workers / (workers - 1):.0%} of their "
            "capacity to do at the peak: records wait until it is back; more --headroom avoids that"
        )
    for name, most, got in (
        ("records/s of a worker", of.most.records_per_s, need.peak / workers),
        ("series of a worker", of.most.series, series),
        ("metrics of a record", of.most.metrics, need.metrics),
        ("partitions of a worker", of.most.partitions, per_worker),
    ):
        if got > most:
            sizes.warnings.append(f"{name}: measured up to {most:,.0f}, here {got:,.0f}; the figures are less certain")
    return sizes


def check(need: Need) -> None:
    """Raises ConfigurationError with what is expected."""
    for name, value, fits, expected in (
        ("--records-per-s", need.records_per_s, need.records_per_s > 0, "above 0"),
        ("--series", need.series, need.series >= 1, "1 or more"),
        ("--peak-records-per-s", need.peak, need.peak >= need.records_per_s, f"at least {need.records_per_s:g}"),
        ("--headroom", need.headroom, 0 <= need.headroom < 1, "at least 0 and below 1"),
        ("--core-speed", need.speed, need.speed > 0, "above 0"),
    ):
        if not fits:
            raise ConfigurationError(f"size: {name} must be {expected}, got {value:g}")


def _workers(need: Need, model: Model) -> tuple[int, int]:
    """The smallest number of workers with the headroom free at the peak, and their partitions."""
    for workers in range(1, MOST_WORKERS + 1):
        partitions = need.partitions or _partitions(workers)
        if workers > partitions:
            raise ConfigurationError(
                f"size: {partitions} partitions keep {partitions} workers busy at most, and that is not enough for "
                f"{need.peak:,.0f} records/s with --headroom {need.headroom:g}: more partitions, or less headroom"
            )
        # The worker with the most partitions is the one that has to be fast enough.
        share = math.ceil(partitions / workers) / partitions
        at = need.series * share, partitions * share, need.view, need.speed
        if need.peak * share <= model.capacity(*at) * (1.0 - need.headroom):
            return workers, partitions
    raise ConfigurationError(f"size: {need.peak:,.0f} records/s need more than {MOST_WORKERS} workers: divide the job")


def _partitions(workers: int) -> int:
    """Twice as many as workers, so that the job can grow to that, and a multiple, so that all have as much to do."""
    return max(2 * workers, -(-LEAST_PARTITIONS // workers) * workers)


def _of_workers(sizes: Sizes, need: Need, model: Model, workers: int, partitions: int, capacity: float) -> None:
    of, each = model.of, partitions / workers
    series, rates = need.series / workers, (need.records_per_s / workers, need.peak / workers)
    cores = [model.cores(rate, series, each, need.view, need.speed) for rate in rates]
    left = max(1, workers - 1)
    sizes.add("workers", workers, "", f"peak / (capacity x (1 - {need.headroom:g}))")
    sizes.add("partitions", partitions, "", "given" if need.partitions else "a multiple of the workers, twice as many")
    sizes.add("capacity of a worker", capacity, "records/s", "CPU time of a record, a batch, a snapshot")
    sizes.add("load", need.records_per_s / workers / capacity, "of capacity", "mean records/s")
    sizes.add("load at the peak", need.peak / workers / capacity, "of capacity", "peak records/s")
    sizes.add("CPU of a worker", cores[0], "cores", "small batches while there is time: at most this")
    sizes.add("CPU of all workers", cores[0] * workers, "cores", "the same")
    sizes.add("CPU of a worker at the peak", cores[1], "cores", f"it can use {of.cpu.usable_cores:.2f}")
    sizes.add("series of a worker", series, "", "series / workers")
    sizes.add("memory of a series", model.series_bytes(), "bytes", "rows and models of these detectors")
    mb = sizes.add(
        "memory of a worker", model.memory_mb(series, each, need.view), "MB", "with all its partitions behind"
    )
    most = max(mb, model.memory_mb(need.series / left, partitions / left, need.view))
    sizes.add("memory limit of a worker", most * MEMORY_ROOM, "MB", "one worker lost, and a quarter more")


def _restarts(sizes: Sizes, need: Need, model: Model, workers: int, partitions: int, load: float) -> None:
    session_s, left = model.settings.kafka.session_timeout_s, max(1, workers - 1)
    each = -(-partitions // workers)
    start_s = model.of.restart.start_s / need.speed
    taken = -(-each // left) if workers > 1 else each
    moved = model.recovery_s(need.series * taken / partitions, taken, need.speed)
    crash_s = sizes.add(
        "back after a crash",
        session_s + 1.0 + moved + (start_s if workers == 1 else 0.0),
        "s",
        "session timeout, changelog and replay of the partitions that move; at most this",
    )
    whole_s = start_s + model.recovery_s(need.series * each / partitions, each, need.speed)
    sizes.add("back after all workers started", whole_s, "s", "the same for all partitions; at most this")
    if load < 1.0:
        sizes.add("caught up after a crash", crash_s * load / (1.0 - load), "s", "outage x load / (1 - load)")


def _topics(sizes: Sizes, need: Need, model: Model, workers: int, partitions: int) -> None:
    foot, rate = model.foot, need.records_per_s
    batch = rate / (workers * model.batches_per_s(rate / workers, partitions / workers))
    raw = (foot.raw if need.record_bytes is None else need.record_bytes) + 8.0  # of its frame
    raw *= foot.packed_raw[need.producer_codec]
    result, q = model.result_bytes(batch), model.snapshots_per_record(need.series, partitions)
    rests = "noise of three decimals, packed as settings say"
    sizes.add("record in raw-data", raw, "bytes", "given" if need.record_bytes else "plain JSON")
    sizes.add("result", result, "bytes", f"{rests}, in batches of {batch:,.0f}")
    sizes.add("snapshot", foot.packed_snapshot, "bytes", f"{rests}; {q:.3f} for each record")
    episodes_per_s = rate * need.episodes_per_1000 / 1000
    events = episodes_per_s * EPISODE_EVENTS * foot.event
    disk = {
        "raw-data": rate * raw * DAY_S * need.raw_days,
        "anomaly-results": rate * result * DAY_S * need.results_days,
        "changelog": model.changelog_records(need.series, partitions) * foot.packed_snapshot,
        "anomalies": events * DAY_S * WEEK_DAYS + need.series * foot.event,
    }
    rekeyed = rate * raw if model.settings.input.rekey else 0.0
    if rekeyed:
        disk["by source"] = rekeyed * DAY_S * WEEK_DAYS
    for name, size_bytes in disk.items():
        kept = {"raw-data": f"{need.raw_days:g} days", "anomaly-results": f"{need.results_days:g} days"}
        sizes.add(f"topic {name}", size_bytes / 1e9, "GB", f"{kept.get(name, 'as it is created')}, one copy")
    sizes.add("disk of all brokers", sum(disk.values()) * need.copies / 1e9, "GB", f"{need.copies} copies")
    written = rate * (raw + result + q * foot.packed_snapshot) + rekeyed + events
    shown = min(rate * result, partitions * VIEW_FETCHED_PER_S) * workers if need.view else 0.0
    sizes.add("written to brokers", written / 1e6, "MB/s", "raw-data, results, changelog, anomalies")
    sizes.add("between brokers", written * (need.copies - 1) / 1e6, "MB/s", f"{need.copies} copies")
    sizes.add("read from brokers", (rate * raw + rekeyed + shown) / 1e6, "MB/s", "raw-data once, and each view")
    episodes = sizes.add("episodes", episodes_per_s * DAY_S, "a day", f"{need.episodes_per_1000:g} of 1000 records")
    sizes.add("history", episodes * EPISODE_BYTES / 1e9, "GB a day", f"{EPISODE_BYTES} bytes an episode")


def _doubt(sizes: Sizes, need: Need, model: Model, workers: int, partitions: int) -> None:
    """Limits of the calculation."""
    settings = model.settings
    if settings.sources:
        sizes.warnings.append("sources: series with settings of their own are counted as those of detection")
    if need.series / partitions > settings.state.max_sources:
        sizes.warnings.append(
            f"state.max_sources is {settings.state.max_sources:,}, and a partition has {need.series / partitions:,.0f} "
            "series: raise it, or have more partitions"
        )
    if need.records_per_s / partitions < 10:
        sizes.warnings.append(
            "partitions with less than 10 records/s have pauses of state.idle_snapshot_s in which snapshots are "
            "written: the changelog may have one for each record"
        )
    if need.series < 20 * partitions:
        sizes.warnings.append("few series for a partition: some partitions may have twice the load of others")
    if need.view and workers > 1:
        sizes.warnings.append(
            "each worker has its own view here: with dashboard.enabled false in workers, and one "
            "`faust-anomaly alerter`, they need less"
        )
