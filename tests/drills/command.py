"""What ``python -m tests.drills`` does."""

import fnmatch
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from tests.bench import report
from tests.docs import pages
from tests.drills import run
from tests.drills.judge import Episode, faulty, kinds, share_outside
from tests.drills.series import DRILLS, made, right


def _chosen(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    patterns = [pattern for pattern in text.split(",") if pattern]
    if none := [pattern for pattern in patterns if not fnmatch.filter(DRILLS, pattern)]:
        raise click.BadParameter(f"no kind {', '.join(none)}; there are {', '.join(DRILLS)}")
    return [name for name in DRILLS if not patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)]


@click.command()
@click.option("--seed", default=1, show_default=True, help="Another seed makes other series.")
@click.option("--instances", default=10, show_default=True, help="Series of each kind.")
@click.option(
    "--only", "names", default="", callback=_chosen, metavar="KIND,...", help="These kinds alone, or patterns: calm_*."
)
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings; default: those without any.")
@click.option("--in-process", is_flag=True, help="Without the command detect: the same figures, in less time.")
@click.option("--verbose", is_flag=True, help="Say of every series that failed why.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@click.option("--write-docs", is_flag=True, help="Write the table into docs/detection.md.")
def main(
    seed: int,
    instances: int,
    names: list[str],
    config: Path | None,
    in_process: bool,
    verbose: bool,
    as_json: bool,
    write_docs: bool,
) -> None:
    """Judge the episodes that ``faust-anomaly detect`` reports for made series."""
    if write_docs and (config is not None or len(names) < len(DRILLS)):
        sys.exit("docs/detection.md stays as it is: its table is of the default settings and of every kind")
    cases = {f"{name}/{k}": made(name, seed, k) for name in names for k in range(instances)}
    found = (run.in_process if in_process else run.by_detect)(cases, config)
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
