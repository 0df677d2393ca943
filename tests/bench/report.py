"""The figures as Markdown, with the machine they are from; and the README's block of them."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.latency import Latency
from tests.bench.point import Step
from tests.bench.recovery import Recovery
from tests.bench.throughput import Throughput

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def machine(kafka: str) -> str:
    cpu = _after("/proc/cpuinfo", "model name")
    memory_gb = int(_after("/proc/meminfo", "MemTotal").split()[0]) / 1e6
    packages = ", ".join(f"{name} {version(name)}" for name in ("faust-streaming", "aiokafka", "numba", "msgspec"))
    return (
        f"{os.cpu_count()} cores of {cpu}, {memory_gb:.0f} GB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {kafka}, {packages}; broker, workers and load share the machine."
    )


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


def throughput_table(runs: Sequence[Throughput]) -> str:
    """One row a contestant and number of sources: the median of its rounds, and ratios to the first one's."""
    cells: dict[tuple[int, str], list[Throughput]] = {}
    for run in runs:
        cells.setdefault((run.sources, run.contestant.name), []).append(run)
    rows = []
    for (sources, name), rounds in sorted(cells.items(), key=lambda cell: cell[0][0]):
        ours = cells.get((sources, runs[0].contestant.name))

        def median(figure: str, rounds: list[Throughput] | None = rounds) -> float:
            return statistics.median(getattr(run, figure) for run in rounds)

        ratio = f"{median('rate') / median('rate', ours):.2f}" if ours else ""
        spread = f" ({thousands(min(r.rate for r in rounds))}-{thousands(max(r.rate for r in rounds))})"
        rows.append(
            [
                name,
                f"{sources:,}",
                f"{rounds[0].records:,}",
                f"**{thousands(median('rate'))}**" + (spread if len(rounds) > 1 else ""),
                ratio,
                thousands(median("late_rate")),
                thousands(median("whole_rate")),
                f"{median('start_s'):.1f}",
                f"{median('cpu_s_per_million'):.1f}",
                f"{median('rss_mb'):.0f}",
                f"{statistics.median(run.verdict.bytes_per_result for run in rounds):.0f}",
                f"{max(run.lag for run in rounds):,}",
            ]
        )
    return table(
        [
            "contestant",
            "sources",
            "records",
            "records/s",
            "to the first",
            "second half",
            "with start",
            "start, s",
            "CPU s per 1M",
            "peak RSS, MB",
            "bytes a result",
            "lag after",
        ],
        rows,
    )


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


def write_readme(text: str, path: Path) -> None:
    """Replaces what stands between the two marks.

    Raises
    ------
    ValueError
        The file has not exactly one pair of marks.
    """
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise ValueError(f"{path}: expected one {BEGIN} ... {END}, add it where the figures belong")
    path.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}", "utf-8")
