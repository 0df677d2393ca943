"""What ``python -m tests.drills`` does."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
from data import ROOT

from tests.bench import report
from tests.docs import pages
from tests.drills.judge import Episode, Tally, faulty, kinds, share_outside
from tests.drills.series import DRILLS, made, right
from tests.drills.shapes import Case

INSIDE = b'"is_anomaly":true'


def _chosen(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    names = [name for name in text.split(",") if name] or list(DRILLS)
    if unknown := [name for name in names if name not in DRILLS]:
        raise click.BadParameter(f"no kind {', '.join(unknown)}; there are {', '.join(DRILLS)}")
    return names


@click.command()
@click.option("--seed", default=1, show_default=True, help="Another seed makes other series.")
@click.option("--instances", default=10, show_default=True, help="Series of each kind.")
@click.option("--only", "names", default="", callback=_chosen, metavar="KIND,...", help="These kinds alone.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings; default: those without any.")
@click.option("--verbose", is_flag=True, help="Say of every series that failed why.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@click.option("--write-docs", is_flag=True, help="Write the table into docs/detection.md.")
def main(
    seed: int, instances: int, names: list[str], config: Path | None, verbose: bool, as_json: bool, write_docs: bool
) -> None:
    """Judge the episodes that ``faust-anomaly detect`` reports for made series."""
    if write_docs and (config is not None or len(names) < len(DRILLS)):
        sys.exit("docs/detection.md stays as it is: its table is of the default settings and of every kind")
    cases = {f"{name}/{k}": made(name, seed, k) for name in names for k in range(instances)}
    found = episodes(cases, config)
    why = {source: faulty(case, found.get(source, [])) for source, case in cases.items()}
    passed = {name: sum(not why[f"{name}/{k}"] for k in range(instances)) for name in names}
    every = [each for of_source in found.values() for each in of_source]
    score, outside, counted = sum(passed.values()) / len(cases), share_outside(every), kinds(every)
    if as_json:
        shares = {name: round(count / instances, 3) for name, count in passed.items()}
        figures = {"score": round(score, 4), "drills": shares, "episodes": len(every)}
        click.echo(json.dumps(figures | {"episode_kinds": counted, "open_outside_band": outside}, indent=1))
        return
    for name, count in passed.items():
        failed = {source: reasons for source, reasons in why.items() if reasons and source.split("/")[0] == name}
        first = "; ".join(next(iter(failed.values()), []))
        click.echo(f"{name:26} {count / instances:4.0%}  {'' if verbose else first[:90]}".rstrip())
        for source, reasons in failed.items() if verbose else ():
            click.echo(f"    {source}: {'; '.join(reasons)}")
    total = in_words(score, every)
    click.echo(total)
    if write_docs:
        command = f"`python -m tests.drills --seed {seed} --instances {instances} --write-docs`"
        pages.write("drills", f"{table(passed, instances)}\n\n{total} {command}, {report.hardware()}.")


def in_words(score: float, every: list[Episode]) -> str:
    """The line below the table: all kinds together, and what the episodes say about themselves."""
    outside, counted = share_outside(every), kinds(every)
    of_kind = ", ".join(f"{count:,} {kind}" for kind, count in counted.items())
    text = f"Together {score:.1%}. {len(every):,} episodes" + (f": {of_kind}" if counted else "")
    if outside is not None:
        text += f"; {outside:.0%} of those {'about a value' if counted else 'with a band'} open outside the band shown"
    return text + "."


def table(passed: Mapping[str, int], instances: int) -> str:
    rows = [(f"`{name}`", right(name), f"{count} of {instances}") for name, count in passed.items()]
    lines = [("series", "what is right", "passed"), ("---", "---", "---:"), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def episodes(cases: Mapping[str, Case], config: Path | None) -> dict[str, list[Episode]]:
    """What ``detect`` reports of these series, by source.

    Each result names the row of its point, so that those outside of episodes need not be read.
    """
    sources, begins = list(cases), np.cumsum([0, *map(len, cases.values())])
    tally, results = Tally(), 0
    with tempfile.TemporaryDirectory(prefix="drills-") as folder:
        path = Path(folder) / "drills.ndjson"
        with path.open("w") as file:
            for source, case in cases.items():
                file.writelines(records(source, case))
        for line in detected(path, config):
            results += 1
            if INSIDE in line:
                result = json.loads(line)
                row = int(result["id"].split(":")[2])
                which = int(np.searchsorted(begins, row, "right")) - 1
                tally.add(sources[which], row - int(begins[which]), result)
    if results != begins[-1]:
        raise SystemExit(f"expected a result for each of {begins[-1]:,} points, found {results:,}")
    return tally.episodes


def records(source: str, case: Case) -> Iterator[str]:
    """The points as lines of NDJSON, in the order in which they arrive."""
    names, columns = list(case.values), [x.tolist() for x in case.values.values()]
    for time, *row in zip(case.time.tolist(), *columns):
        begin = f'{{"source":"{source}","timestamp":{time:.0f},'
        if names == ["value"]:
            yield f'{begin}"value":{row[0]:.9g}}}\n'
            continue
        present = [(name, x) for name, x in zip(names, row) if x == x]
        if case.one_by_one:
            [(name, x)] = present
            yield f'{begin}"metric":"{name}","value":{x:.9g}}}\n'
        else:
            yield begin + '"values":{' + ",".join(f'"{name}":{x:.9g}' for name, x in present) + "}}\n"


def detected(path: Path, config: Path | None) -> Iterator[bytes]:
    """The results of ``detect``, without settings from the environment; its error ends the run."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    command = [sys.executable, "-m", "app", "detect", str(path), "--output", "-"]
    command += ["--config", str(config)] if config else []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        with process:
            yield from process.stdout
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{errors.read().decode()}")
