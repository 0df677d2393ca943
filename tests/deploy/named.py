"""What the files for deployment name: metrics, settings, other files. `test_names.py` holds them to the program."""

import re
from collections.abc import Iterator
from pathlib import Path

from app.errors import ConfigurationError
from app.metrics import PREFIX, Metrics
from app.settings import load
from app.settings.sources import FILE_VARIABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OUTSIDE = [ROOT / name for name in ("Dockerfile", ".dockerignore", "docs/deployment.md", "docs/runbook.md")]
FILES = re.compile(r"(?<![\w/.:$-])(?:app|agents|tables|generators|tests|docs|deploy)/[\w./-]*\.[a-z]+\b")
METRIC = re.compile(rf"(?<![\w:-]){PREFIX}\w+")
VARIABLE = re.compile(r"\bANOMALY_[A-Z0-9_]*[A-Z0-9]\b")
FROM_FILE = "_FILE"  # ANOMALY_KAFKA__SASL_PASSWORD_FILE names a file that holds ANOMALY_KAFKA__SASL_PASSWORD


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that is deployed, or read while deploying."""
    for path in [*OUTSIDE, *sorted(DEPLOY.rglob("*"))]:
        if path.is_file() and "__pycache__" not in path.parts:
            yield path, path.read_text("utf-8")


def unknown_metrics(text: str) -> set[str]:
    """Names that no worker serves under any name that Prometheus stores of it."""
    known = set()
    for one in Metrics().documented:
        known.add(one.name)
        if one.kind == "histogram":
            known |= {f"{one.name}_{part}" for part in ("bucket", "sum", "count")}
    return set(METRIC.findall(text)) - known


def unknown_variables(text: str) -> set[str]:
    """Variables that the program would refuse, or not look at."""
    found = set()
    for name in set(VARIABLE.findall(text)) - {FILE_VARIABLE}:
        plain = name.removesuffix(FROM_FILE)
        if not any(_known(one) for one in {name, plain}):
            found.add(name)
    return found


def _known(variable: str) -> bool:
    if "__" not in variable:
        return variable in ("ANOMALY_SOURCES",)
    try:
        load(environ={variable: "no value has this"})
    except ConfigurationError as error:
        return "no such setting" not in str(error)
    return True


def missing_files(text: str) -> set[str]:
    """Files of the repository that are not there."""
    return {name for name in FILES.findall(text) if not (ROOT / name).exists()}
