"""The figures as Markdown, with the machine they are from."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.latency import Latency
from tests.bench.point import Step
from tests.bench.recovery import Recovery
from tests.bench.start import Start
from tests.bench.throughput import Throughput

YARDSTICK = "stock Faust, tuned"


def hardware() -> str:
    cpu = _after("/proc/cpuinfo", "model name")
    memory_gb = int(_after("/proc/meminfo", "MemTotal").split()[0]) / 1e6
    cores = f"{os.cpu_count()} cores of {cpu}, {memory_gb:.0f} GB"
    return f"{cores}, Linux {platform.release()}, Python {platform.python_version()}"


def machine(kafka: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("faust-streaming", "aiokafka", "numba", "msgspec"))
    return f"{hardware()}, {kafka}, {packages}; broker, workers and load share the machine."


def _after(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def thousands(rate: float) -> str:
    return f"{rate / 1000:.0f}k" if rate >= 20_000 else f"{rate / 1000:.1f}k"


def start_table(runs: Sequence[Start]) -> str:
    cold, warm = ([run.cold_s for run in runs], [run.warm_s for run in runs])
    figures = [f"{statistics.median(times):.1f}" if times else "failed" for times in (cold, warm)]
    return table(["default set", "cold", "warm"], [["first start: from nothing to ready, s", *figures]])


def throughput_table(runs: Sequence[Throughput]) -> str:
    """One row a contestant, medians of its rounds; CPU and start with fewest sources, memory with most."""
    cells: dict[tuple[str, int], list[Throughput]] = {}
    for run in runs:
        cells.setdefault((run.contestant.name, run.sources), []).append(run)
    names, sizes = list(dict.fromkeys(name for name, _ in cells)), sorted({size for _, size in cells})
    heads = ["contestant"]
    for size in sizes:
        heads += [f"records/s, {size:,} sources", "x stock Faust"]
    heads += ["second half", "with start", "start, s", "CPU s per 1M", "peak RSS, MB", "bytes a result"]
    rows = []
    for name in names:
        row = [name]
        if any((name, size) not in cells for size in sizes):
            rows.append([name, "failed", *[""] * (len(heads) - 2)])
            continue
        for size in sizes:
            rates = [run.rate for run in cells[name, size]]
            stock = [run.rate for run in runs if run.sources == size and run.contestant.name == YARDSTICK]
            spread = f" ({thousands(min(rates))}-{thousands(max(rates))})" if len(rates) > 1 else ""
            times = statistics.median(rates) / statistics.median(stock) if stock else float("nan")
            row += [f"**{thousands(statistics.median(rates))}**{spread}", f"{times:.1f}"]
        few, many = cells[name, sizes[0]], cells[name, sizes[-1]]
        row += [
            thousands(statistics.median(run.late_rate for run in few)),
            thousands(statistics.median(run.whole_rate for run in few)),
            f"{statistics.median(run.start_s for run in few):.1f}",
            f"{statistics.median(run.cpu_s_per_million for run in few):.1f}",
            f"{max(run.rss_mb for run in many):.0f}",
            f"{statistics.median(run.verdict.bytes_per_result for run in few):.0f}",
        ]
        rows.append(row)
    return table(heads, rows)


def latency_table(runs: Sequence[Latency]) -> str:
    return table(
        ["contestant", "records/s", "p50, ms", "p99, ms", "max, ms", "cores"],
        [
            [
                run.contestant.name,
                f"{run.rate_per_s:,.0f}",
                f"{run.p50_ms:.1f}",
                f"{run.p99_ms:.1f}",
                f"{run.max_ms:.0f}",
                f"{run.cores:.2f}",
            ]
            for run in runs
        ],
    )


def recovery_table(runs: Sequence[Recovery]) -> str:
    return table(
        [
            "contestant",
            "killed",
            "all partitions answered after, s",
            "records",
            "lost",
            "repeated",
            "repeated differently",
            "wrong",
            "lag after",
        ],
        [
            [
                run.contestant.name,
                f"1 of {run.workers}",
                f"{run.back_s:.1f}",
                f"{run.verdict.records:,}",
                f"{run.verdict.lost:,}",
                f"{run.verdict.repeated:,}",
                f"{run.verdict.differing:,}",
                f"{run.verdict.wrong:,} of {run.verdict.compared:,}",
                f"{run.lag:,}",
            ]
            for run in runs
        ],
    )


def bad_table(measured: Sequence[tuple[str, int, float]]) -> str:
    return table(
        ["record", "dead letters", "CPU ms"], [[name, str(letters), f"{ms:.1f}"] for name, letters, ms in measured]
    )


def point_table(steps: Sequence[Step], read_ns: float, encode_ns: float) -> str:
    rows = [
        [
            step.name,
            f"{step.numba_ns:,.0f}",
            f"{step.python_ns:,.0f}",
            f"{step.row_bytes:,.0f}",
            f"{step.snapshot_bytes:,}",
        ]
        for step in steps
    ]
    return (
        table(["scored by", "ns a point, numba", "ns, CPython", "state, bytes a source", "snapshot, bytes"], rows)
        + f"\n\nReading a record takes {read_ns:,.0f} ns, encoding a result {encode_ns:,.0f} ns."
    )
