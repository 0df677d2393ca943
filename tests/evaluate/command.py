"""What ``python -m tests.evaluate`` does."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from support.data import DATA

from app.detectors import names
from app.settings import load
from tests.bench import report
from tests.docs import pages
from tests.evaluate.cost import cost
from tests.evaluate.figures import SETS, of_method, on_data, on_shipped, shown

SHIPPED = {"NAB standard": "standard", "NAB low FP": "reward_low_FP_rate", "NAB low FN": "reward_low_FN_rate"}


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=DATA, show_default=True, help="Folder of dev/ and score_all.py."
)
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings; default: those without any.")
@click.option("--every-method", is_flag=True, help="Each detector alone too, with what it costs.")
@click.option("--method", "methods", multiple=True, help="This detector alone too; may be given again.")
@click.option("--write-docs", is_flag=True, help="Write these rows into docs/detection.md, or with --every-method all.")
@click.option("--json", "as_json", is_flag=True, help="What was counted, without cost, as JSON.")
def main(
    data: Path,
    config: Path | None,
    every_method: bool,
    methods: tuple[str, ...],
    write_docs: bool,
    as_json: bool,
) -> None:
    """Figures of detection, by the program's own commands and a scorer that is not ours."""
    # What is called river is what its steps in the settings are.
    chosen = tuple(name for name in names() if name != "river") if every_method else methods
    here = (data / "score_all.py").exists()
    if not here:
        click.echo(f"no data in {data}: the series that ship, by faust-anomaly evaluate", err=True)
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        configs = {"default" if config is None else config.stem: config}
        configs |= {method: of_method(method, Path(folder)) for method in chosen}
        if as_json:
            found = {name: on_data(data, path) if here else on_shipped(path) for name, path in configs.items()}
            click.echo(json.dumps(found, indent=1))
            return
        rows = []
        for name, path in configs.items():
            click.echo(f"{name} ...", err=True)
            rows.append([name, *(shown(on_data(data, path)) if here else _of_shipped(path)), *_cost(path)])
    heads = [
        "detector",
        *(SETS if here else [*SHIPPED, "false alerts per 1000", "windows hit"]),
        "us a point",
        "bytes a source",
    ]
    click.echo(_text(heads, rows))
    if write_docs:
        if not here or config is not None:
            sys.exit("docs/detection.md stays as it is: its table is of the default settings and of all the data")
        known = [] if every_method else rows_of(pages.block("detection"))
        pages.write("detection", _text(heads, renewed(known, rows)))


def _text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return (
        f"{report.table(heads, [rows[0], *sorted(rows[1:], key=lambda row: -float(row[1]))])}\n\n{report.hardware()}."
    )


def rows_of(table: str) -> list[list[str]]:
    """The rows of a table as ``_text`` makes it."""
    return [list(row.values()) for row in pages.rows(table)]


def renewed(known: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows, the first of them first, and those known of others."""
    return [*rows, *(row for row in known if row[0] not in {row[0] for row in rows})]


def _of_shipped(config: Path | None) -> Sequence[str]:
    found = on_shipped(config)
    scores = [f"{found['nab'][name]:.1f}" for name in SHIPPED.values()]
    return [*scores, f"{found['false_alerts_per_1000']:.2f}", f"{found['hit']}/{found['windows']}"]


def _cost(config: Path | None) -> Sequence[str]:
    us, size = cost(load(config, environ={}))
    return [f"{us:.2f}" if us < 9.995 else f"{us:,.0f}", f"{size:,}"]
