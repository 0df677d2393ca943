"""From runs to what app/sizing/measured.json holds: least squares with nothing below zero, and the checks beside it."""

import datetime
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import nnls

from app.local_kafka.jars import KAFKA
from app.settings import load
from app.sizing import footprint
from app.sizing.measured import AdapterCost, Check, Cpu, Measured, Memory, Range, Restart
from app.sizing.model import Model
from tests.bench.report import hardware
from tests.bench.sizing.measured import Stage
from tests.bench.sizing.sets import AUTO, SETS

PER_S = ("batch_cores", "rekey_batch_cores", "view_cores")  # cores; the others are us of a record
TERMS = (*PER_S, "record_us", "vector_us", "metric_us", "snapshot_us_kb", "tenfold_us", "rekey_us")
POWERS = [(power, shared) for power in np.arange(0.5, 1.01, 0.05) for shared in np.arange(0.0, 0.41, 0.05)]
BEHIND = 4.0  # weight of a backlog beside a steady rate: where records cost most
PACKAGES = ("faust-streaming", "aiokafka", "numba", "msgspec", "cramjam", "scikit-learn")


def stages(runs: dict[str, Any]) -> list[Stage]:
    found = [stage for run in runs.values() if isinstance(run, list) for stage in run]
    return [msgspec.convert(stage, Stage) for stage in found]


def fitted(runs: dict[str, Any]) -> Measured:
    """Raises KeyError where a run is missing."""
    every = stages(runs)
    used, checks = [one for one in every if not one.checks], [one for one in every if one.checks]
    kernels = runs["kernels"]
    adapters = {name: AdapterCost(**one) for name, one in runs["adapters"].items()}
    cpu = _cpu(used, kernels)
    found = Measured(
        machine=hardware(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={"Kafka": KAFKA, **{name: version(name) for name in PACKAGES}},
        cpu=cpu,
        restart=_restart(runs),
        memory=_memory(used, runs["libraries"]),
        kernels_us=kernels,
        adapters=adapters,
        most=Range(
            records_per_s=max(one.per_s for one in used),
            series=max(one.series for one in used),
            metrics=max(one.metrics for one in used),
            partitions=max(one.partitions for one in used),
        ),
        checks=[],
    )
    found.checks = [check for one in checks for check in compared(found, one)]
    found.checks.append(recovered(found, runs))
    return rounded(found)


def _idle(used: list[Stage], case: str) -> float:
    return next(one.cores for one in used if one.case == case and one.per_s < 1)


def _cpu(used: list[Stage], kernels: dict[str, float]) -> Cpu:
    idle = _idle(used, "default set")
    each = max(0.0, (_idle(used, "partitions") - idle) / 12)
    stages, fits = [one for one in used if one.per_s > 1], []
    for power, shared in POWERS:
        rows, left = [], []
        for one in stages:
            methods = SETS[one.detectors] or AUTO
            scoring = one.per_s * one.metrics * sum(kernels[method] for method in methods)
            weight = (BEHIND if one.backlog else 1.0) / one.cores
            rows.append(weight * np.array(_costs(one, power, shared)) / 1e6)
            left.append(weight * (one.cores - idle - each * (one.partitions - 4) - scoring / 1e6))
        found, rest = nnls(np.array(rows), np.array(left))
        fits.append((rest, power, shared, dict(zip(TERMS, found.tolist()))))
    _, power, shared, terms = min(fits, key=lambda fit: fit[0])
    for name in PER_S:
        terms[name] /= 1e6
    behind = [one for one in used if one.backlog]
    return Cpu(
        idle_cores=idle,
        idle_partition_cores=each,
        batch_power=float(power),
        partition_power=float(shared),
        batches_per_s=_most_batches([one for one in used if not one.rekey]),
        rekey_batches_per_s=_most_batches([one for one in used if one.rekey]),
        full_batch=min(one.per_s / one.batches_per_s for one in behind),
        usable_cores=min(1.0 / one.busiest for one in behind),
        **terms,
    )


def _costs(one: Stage, power: float, shared: float) -> tuple[float, ...]:
    """What each of TERMS is multiplied by, the CPU time being in us a second."""
    batches = one.batches_per_s**power * (4 / one.partitions) ** shared
    return (
        batches,
        batches * one.rekey,
        float(one.view),
        one.per_s,
        one.per_s * (one.metrics > 1),
        one.per_s * (one.metrics - 1),
        one.snapshots_per_s * one.snapshot_bytes / 1000,
        one.per_s * np.log10(max(one.series, 1000) / 1000),
        one.per_s * one.rekey,
    )


def _most_batches(used: list[Stage]) -> float:
    """Of one partition, a second: what the median of the steady stages says, by the formula of app/sizing/model.py."""
    found = []
    for one in used:
        if one.backlog or one.batches_per_s < 1 or one.batches_per_s > 0.98 * one.per_s:
            continue
        low, high = 0.1, 2000.0
        for _ in range(60):
            middle = (low + high) / 2
            most = middle * one.partitions
            low, high = (middle, high) if most * -np.expm1(-one.per_s / most) < one.batches_per_s else (low, middle)
        found.append(low)
    return float(np.median(found))


def _restart(runs: dict[str, Any]) -> Restart:
    replay, few, much = runs["replay"], runs["recovery"]["rows"], runs["recovery"]["default"]
    cpu_us = [1e6 * (one["cpu_s"] - replay["start_cpu_s"]) / one["sources"] for one in (few, much)]
    size = [one["changelog_bytes"] / one["sources"] for one in (few, much)]
    byte_us = max(0.0, (cpu_us[1] - cpu_us[0]) / (size[1] - size[0]))
    return Restart(replay["start_cpu_s"], max(0.0, cpu_us[0] - byte_us * size[0]), 1000 * byte_us, replay["replay_us"])


def foot(detectors: str, metrics: int) -> tuple[Any, footprint.Footprint]:
    settings = load(environ={}, detection={"detectors": SETS[detectors]}) if SETS[detectors] else load(environ={})
    return settings, footprint.of(settings, metrics)


def _memory(used: list[Stage], libraries_mb: float) -> Memory:
    first = next(one for one in used if one.case == "default set" and one.per_s < 1)
    many = next(one for one in used if one.case == "many series")
    view = [one for one in used if one.case == "view"]
    behind = next(one for one in used if one.case == "backlog")
    _, default = foot("default", 1)
    of_series = 1e6 * (many.resident_mb - first.resident_mb) / (many.series - first.series)
    base = first.resident_mb - first.series * of_series / 1e6
    return Memory(
        base_mb=base,
        libraries_mb=libraries_mb,
        view_mb=view[0].resident_mb - first.resident_mb + 92.0,  # what it may remember: docs/operations.md
        series_bytes=max(0.0, of_series - default.row),
        backlog_mb=max(0.0, (behind.peak_mb - first.resident_mb) / behind.partitions),
    )


def compared(of: Measured, one: Stage) -> list[Check]:
    """What the model says of a worker, beside what it did."""
    settings, footed = foot(one.detectors, one.metrics)
    settings = settings.model_copy(update={"input": settings.input.model_copy(update={"rekey": one.rekey})})
    model = Model(of, footed, settings)
    at = one.per_s, one.series, one.partitions, one.view
    name = f"{one.case.removeprefix('check: ')}, {one.per_s:,.0f} records/s"
    batch = one.per_s / max(one.batches_per_s, 1e-9)
    found = [
        Check(name, "CPU, from its batches/s", "cores", one.cores, model.cores(*at, batches_per_s=one.batches_per_s)),
        Check(name, "result in the log", "bytes", one.result_bytes, model.result_bytes(batch)),
    ]
    if not one.backlog:
        memory = model.memory_mb(one.series, 0, one.view)
        found.insert(1, Check(name, "memory without a backlog", "MB", one.resident_mb, memory))
        found.insert(1, Check(name, "CPU", "cores", one.cores, model.cores(*at)))
    if one.backlog:
        found.insert(1, Check(name, "memory", "MB", one.peak_mb, model.memory_mb(one.series, one.partitions, one.view)))
    if one.snapshots_per_s > 1:
        found.append(Check(name, "snapshot in the log", "bytes", one.changelog_bytes, footed.packed_snapshot))
        snapshots = model.snapshots_per_record(one.series, one.partitions)
        found.append(Check(name, "snapshots a record", "", one.snapshots_per_s / one.per_s, snapshots))
    return found


def recovered(of: Measured, runs: dict[str, Any]) -> Check:
    """Recovery of other detectors and more sources than the costs are from."""
    one, (settings, footed) = runs["check: recovery"], foot("few", 1)
    restart = Model(of, footed, settings).of.restart
    each_us = restart.series_us + footed.snapshot * restart.byte_ns / 1000
    said = runs["replay"]["start_cpu_s"] + one["sources"] * each_us / 1e6
    name = f"`residual` and `seasonal`, {one['sources']:,} sources"
    return Check(name, "CPU until recovered", "s", one["cpu_s"], said)


def rounded(found: Any) -> Any:
    """Four digits are more than is known."""
    plain = msgspec.to_builtins(found)

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: short(one) for name, one in value.items()}
        if isinstance(value, list):
            return [short(one) for one in value]
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return msgspec.convert(short(plain), type(found))
