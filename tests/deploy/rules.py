"""The files of Prometheus in deploy/prometheus: what they hold, and what is wrong with them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from app.cli import main
from app.settings import describe, load
from tests.deploy.named import DEPLOY, ROOT

PROMETHEUS = DEPLOY / "prometheus"
ALERTS, RECORDED = PROMETHEUS / "alerts.yaml", PROMETHEUS / "recorded.yaml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
RUNBOOK = ROOT / "docs/runbook.md"
SEVERITIES = ("critical", "warning", "info")
PARTS = ("**It means.**", "**Look here.**", "**Do this.**", "**No problem when**")
SETTING = re.compile(r"`((?:kafka|input|state|detection|output|alerting|storage|dashboard|api)\.[a-z_.]+)`")
COMMAND = re.compile(r"(?:`|-- )faust-anomaly ([a-z]+)(?: ([a-z]+))?")
OWN = re.compile(r"faust_anomaly:\w+:\w+")


def promtool(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Its answer; it is in Debian's package prometheus."""
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus"
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True)


def rules(path: Path) -> list[dict[str, Any]]:
    """Of all groups of a file."""
    return [rule for group in yaml.safe_load(path.read_text("utf-8"))["groups"] for rule in group["rules"]]


def sections(text: str) -> dict[str, str]:
    """Sections of the runbook, by heading."""
    found = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def cases(paths: list[Path]) -> Iterator[tuple[str, bool]]:
    """(alert, whether it fires) of each case of these tests."""
    for path in paths:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                expected = case["exp_alerts"]
                assert test["name"].startswith(f"{case['alertname']} {'fires' if expected else 'silent'}: ")
                assert all(one["exp_annotations"] for one in expected)
                yield case["alertname"], bool(expected)


def problems(alerts: list[dict[str, Any]], recorded: list[dict[str, Any]], runbook: str) -> list[str]:
    """What is missing, or there without use."""
    found, told = [], sections(runbook)
    known = {rule["record"] for rule in recorded}
    used = set()
    for rule in [*alerts, *recorded]:
        names = set(OWN.findall(rule["expr"]))
        used |= names
        found += [f"{name} is not recorded" for name in names - known]
    found += [f"{name} is a limit of nothing" for name in known - used if name.endswith(":limit")]
    for rule in alerts:
        name, notes = rule["alert"], rule.get("annotations", {})
        if not name.startswith("FaustAnomaly"):
            found.append(f"{name} is not named as one of ours")
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            found.append(f"{name} has no severity of {SEVERITIES}")
        if not notes.get("summary", "").endswith(".") or not notes.get("description", "").endswith((".", "{{ end }}")):
            found.append(f"{name} has no summary or description")
        if notes.get("runbook_url") != f"docs/runbook.md#{name.lower()}":
            found.append(f"{name} does not name its section")
        if name not in told:
            found.append(f"{name} has no section in docs/runbook.md")
        elif missing := [part for part in PARTS if part not in told[name]]:
            found.append(f"the section of {name} lacks {missing}")
        elif f"*{rule['labels'].get('severity')}*" not in told[name]:
            found.append(f"the section of {name} has another severity")
    found += [f"{name} is no setting" for name in set(SETTING.findall(runbook)) if not _is_setting(name)]
    found += [f"faust-anomaly {' '.join(words)} is no command" for words in COMMAND.findall(runbook) if not _is(*words)]
    found += [f"section {name} has no alert" for name in set(told) - {rule["alert"] for rule in alerts}]
    return found


def _is_setting(name: str) -> bool:
    return any(row.name == name or row.name.startswith(f"{name}.") for row in describe(load(environ={})))


def _is(name: str, word: str) -> bool:
    command = main.get_command(click.Context(main), name)
    return command is not None and (not isinstance(command, click.Group) or command.get_command(None, word) is not None)
