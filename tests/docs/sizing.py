"""The tables of docs/operations.md, Sizing: what ``faust-anomaly size`` says of some loads, and how true it is."""

from collections.abc import Iterator
from functools import cache

from app.settings import Settings, load
from app.sizing import footprint, measured, shown
from app.sizing.model import Model, Need, Sizes, size
from tests.bench.sizing.sets import SETS

NEEDS = (
    *((per_s, series, "default") for per_s, series in (
        (100, 100), (2_000, 1_000), (10_000, 10_000), (50_000, 10_000), (50_000, 200_000), (200_000, 1_000_000))),
    (50_000, 10_000, "window"),
    (200_000, 1_000_000, "window"),
    (1_000, 1_000, "heavy"),
)  # fmt: skip
NAMED = {"default": "the default", "window": "`moving_average`, `zscore`", "heavy": "the default, `isolation_forest`"}
COLUMNS = {  # head -> figures of app/sizing/model.py, shown one after the other
    "workers": ("workers",),
    "partitions": ("partitions",),
    "cores of all": ("CPU of all workers",),
    "load of a worker": ("load",),
    "memory of a worker": ("memory limit of a worker",),
    "back after a crash": ("back after a crash",),
    "caught up after": ("caught up after a crash",),
    "raw-data": ("topic raw-data",),
    "results": ("topic anomaly-results",),
    "changelog": ("topic changelog",),
    "written to, between, read from brokers": ("written to brokers", "between brokers", "read from brokers"),
}


def settings(detectors: str) -> Settings:
    """The defaults with these detectors."""
    return load(environ={}, **({"detection": {"detectors": SETS[detectors]}} if SETS[detectors] else {}))


@cache
def model(detectors: str) -> Model:
    chosen = settings(detectors)
    return Model(measured.load(), footprint.of(chosen), chosen)


def cells(sizes: Sizes) -> list[str]:
    units = {figure.name: figure.unit for figure in sizes.figures}
    return [", ".join(shown.value(sizes[name], units[name]) for name in names) for names in COLUMNS.values()]


def rows() -> Iterator[list[str]]:
    for per_s, series, detectors in NEEDS:
        sizes = size(Need(records_per_s=per_s, series=series), model(detectors))
        yield [f"{per_s:,}", f"{series:,}", NAMED[detectors], *cells(sizes)]


def table() -> str:
    """A row for each of NEEDS."""
    heads = ["records/s", "series", "detectors", *COLUMNS]
    lines = [heads, ["---:", "---:", "---", *["---:"] * len(COLUMNS)], *rows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def checks_table() -> str:
    """What was measured and not used for the model, beside what the model says."""
    of = measured.load()
    lines = ["| worker | what | measured | calculated | difference |", "|---|---|---:|---:|---:|"]
    for one in of.checks:
        figures = [shown.value(figure, one.unit) for figure in (one.measured, one.predicted)]
        lines.append(f"| {one.case} | {one.what} | {figures[0]} | {figures[1]} | {one.error:+.0%} |".replace("%", " %"))
    return "\n".join([*lines, "", shown.source(of)])


TABLES = {"sizing": table, "sizing_checks": checks_table}
